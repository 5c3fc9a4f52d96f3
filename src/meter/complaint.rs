//! What the log says of a connection that ended by the peer's doing, or with the peer's right to it.

use crate::tls::pump::Ended;

/// Why it ended; none: in one of the ways in which connections always end.
pub fn complaint(ended: &Ended) -> Option<&'static str> {
    match ended {
        Ended::Killed(why) => Some(why),
        // The gRPC library has given it up: too many streams, broken HTTP/2.
        Ended::Dismissed => Some("it broke the rules of HTTP/2"),
        Ended::Expired => Some("its certificate has expired"),
        Ended::Done | Ended::Truncated | Ended::Refused(_) | Ended::Lost(_) | Ended::Closed => None,
    }
}
