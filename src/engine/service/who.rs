//! The client of a request, as it is put on record.

use crate::listener::Caller;
use crate::wire::envelope::Behalf;
use crate::wire::error::{Code, Error};
use crate::wire::record::cut;
use crate::wire::role::Role;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// Whole, for the audit.
    pub name: String,
    /// For events and records, which have less room.
    pub cause: String,
    /// Root, the service's own user or its gateway: may have what others must not see.
    pub is_trusted: bool,
    /// Whether it may have to do with what the service runs for itself.
    pub is_admin: bool,
    /// What it may ask for.
    pub role: Role,
    /// Whether the gateway asks, for itself or for others.
    pub is_gateway: bool,
}

impl Who {
    /// The peer, or the user that it speaks for. The gateway is known by the way that its connections come,
    /// and may nothing for itself that a viewer may not.
    pub fn of(caller: &Caller, on_behalf_of: Option<Behalf>) -> Result<Self, Error> {
        let Caller { uid, pid, is_owner, role, is_gateway, .. } = *caller;
        let is_trusted = is_gateway || is_owner;
        match on_behalf_of {
            None => {
                let role = if is_gateway { Role::Viewer } else { role };
                let (name, cause) = (format!("uid {uid} pid {pid}"), format!("uid {uid}"));
                Ok(Self { name, cause, is_trusted, is_admin: role == Role::Admin, role, is_gateway })
            }
            Some(Behalf { who: name, role: its }) if is_trusted => {
                // The host asks for what it does itself, whoever it does that for.
                let is_admin = its == Role::Admin;
                let role = if is_gateway { its } else { role };
                Ok(Self { cause: cut(&name), name, is_trusted, is_admin, role, is_gateway })
            }
            Some(_) => Err(Error::new(Code::Refused, format!("user {uid} may not speak for others"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_services_user_speak_for_others() {
        let who = |is_owner, on_behalf_of: Option<&str>| {
            Who::of(
                &Caller { uid: 9, gid: 0, pid: 5, is_owner, role: Role::Admin, is_gateway: false },
                on_behalf_of.map(|who| Behalf { who: who.to_owned(), role: Role::Viewer }),
            )
            .map(|w| (w.name, w.cause, w.is_trusted))
        };
        assert_eq!(who(false, None), Ok(("uid 9 pid 5".into(), "uid 9".into(), false)));
        assert_eq!(who(true, Some("ops")), Ok(("ops".into(), "ops".into(), true)));
        assert!(who(true, None).is_ok_and(|(.., is_trusted)| is_trusted));
        assert_eq!(who(false, Some("ops")).unwrap_err().code, Code::Refused);
        let long = "é".repeat(200);
        assert!(who(true, Some(&long)).is_ok_and(|(name, cause, _)| name == long && cause.len() == 120));
    }
    #[test]
    fn the_gateway_has_the_role_of_whom_it_speaks_for() {
        let caller = Caller { uid: 9, gid: 0, pid: 5, is_owner: false, role: Role::Admin, is_gateway: true };
        let of = |role: Option<Role>| {
            let behalf = role.map(|role| Behalf { who: "ops".to_owned(), role });
            Who::of(&caller, behalf).map(|who| (who.role, who.is_admin, who.is_trusted))
        };
        assert_eq!(of(None), Ok((Role::Viewer, false, true)));
        for role in Role::ALL {
            assert_eq!(of(Some(role)), Ok((role, role == Role::Admin, true)));
        }
    }
}
