//! The generated protobuf messages. They stop in this folder and where gRPC needs them as they are
//! (`src/rpc`, the wire files of `src/gateway` and `src/client`): everything else speaks the domain types
//! beside them.

#![allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]
#![cfg_attr(not(feature = "gateway"), allow(dead_code, reason = "some is the gateway's alone"))]

pub(crate) mod v1 {
    include!(concat!(env!("OUT_DIR"), "/provost.internal.v1.rs"));
}

/// `to_wire` and `from_wire` of an enum whose variants have the same names in the messages. A variant that
/// one side lacks does not compile; a number that is not known is the default.
macro_rules! same_variants {
    ($name:ident: $($variant:ident),+) => {
        impl $name {
            pub(crate) fn to_wire(self) -> v1::$name {
                match self {
                    $(Self::$variant => v1::$name::$variant,)+
                }
            }

            /// Of a request: what is unknown is nothing, and not something else.
            #[allow(dead_code, reason = "not each of them is in a request")]
            pub(in crate::wire) fn asked(number: i32) -> Option<Self> {
                v1::$name::try_from(number).ok().map(|_| Self::from_wire(number))
            }

            /// Of what is stored: a newer service may have known more.
            pub(in crate::wire) fn from_wire(number: i32) -> Self {
                match v1::$name::try_from(number) {
                    $(Ok(v1::$name::$variant) => Self::$variant,)+
                    Err(_) => Self::default(),
                }
            }
        }
    };
}
pub(in crate::wire) use same_variants;
