//! The services that `build.rs` generates from `proto/`, and the messages of those that are not ours.

#![allow(clippy::all, clippy::pedantic, dead_code, missing_docs, reason = "generated code")]

/// `provost.v1.ProcessService`, `ProviderService`, `RegistryService` and `ModuleService`, and their messages.
pub(crate) mod public {
    use crate::rpc::codec;
    include!(concat!(env!("OUT_DIR"), "/provost.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/provost.v1.services.rs"));
}

/// `nomos.provider.v1.ProviderService`, and its messages.
pub(crate) mod provider {
    use crate::rpc::codec;
    include!(concat!(env!("OUT_DIR"), "/nomos.provider.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/nomos.provider.v1.services.rs"));
}

/// `constellation.provider.v1`: `ModuleProvider` and `ModuleExecutor`, and their messages.
pub(crate) mod constellation {
    use crate::rpc::codec;
    include!(concat!(env!("OUT_DIR"), "/constellation.provider.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/constellation.provider.v1.services.rs"));
}

/// `grpc.health.v1.Health`.
pub(crate) mod health {
    use crate::rpc::codec;
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.services.rs"));
}

/// `grpc.reflection.v1.ServerReflection`.
pub(crate) mod reflection {
    use crate::rpc::codec;
    include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1.services.rs"));
}

/// The same under its older name.
pub(crate) mod reflection_alpha {
    use crate::rpc::codec;
    include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1alpha.services.rs"));
}

/// `google.rpc.Status` and its details.
pub(crate) mod status {
    include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
}

/// The files of `proto/` as server reflection hands them out.
pub(crate) mod descriptors {
    include!(concat!(env!("OUT_DIR"), "/descriptors.rs"));
}
