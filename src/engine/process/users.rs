//! Users and groups from /etc/passwd and /etc/group, read by ourselves: a static binary has no NSS, and a
//! lookup that asks a directory service may hang. Who comes from elsewhere is given by number, with
//! `--group`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// The most that is read of either file, in bytes: hundreds of thousands of lines.
const FILE_LEN_MAX: u64 = 32 << 20;
/// The most supplementary groups that Linux takes.
const GROUPS_MAX: usize = 65_536;

/// Whom a spec asks for, as it was written: names or numbers.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Run as this user.
    pub user: Option<&'a str>,
    /// With this group, instead of the user's own.
    pub group: Option<&'a str>,
    /// With exactly these supplementary groups, instead of the user's own, unless empty.
    pub groups: &'a [String],
}

/// Whom a child becomes. `None`: it stays what the service is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Credentials {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Supplementary groups, all of them.
    pub groups: Option<Vec<u32>>,
}

/// The variables that say who one is: those of a user are never left to another.
pub const LOGIN: [&str; 4] = ["HOME", "LOGNAME", "SHELL", "USER"];

/// The number of a group of this host, by its name or itself.
pub fn group(wanted: &str) -> Result<u32, Error> {
    let text =
        read(Path::new(GROUP)).map_err(|e| Error::new(Code::Failed, format!("cannot read {GROUP}: {e}")))?;
    find_group(&text, wanted)
}

/// Whether this host has a user of that name.
pub fn is_user(name: &str) -> Result<bool, Error> {
    let text = read(Path::new(PASSWD))
        .map_err(|e| Error::new(Code::Failed, format!("cannot read {PASSWD}: {e}")))?;
    Ok(text.lines().any(|line| line.split(':').next() == Some(name)))
}

/// Looks up whom the spec asks for, in the files of this host; and with a user, what they are to be told of
/// themselves.
pub fn look_up(wanted: &Wanted<'_>) -> Result<(Credentials, Vec<(String, String)>), Error> {
    if wanted.user.is_none() && wanted.group.is_none() && wanted.groups.is_empty() {
        return Ok(<(Credentials, _)>::default());
    }
    let text = |path| {
        read(Path::new(path)).map_err(|e| Error::new(Code::Failed, format!("cannot read {path}: {e}")))
    };
    let passwd = text(PASSWD)?;
    let credentials = resolve(&passwd, &text(GROUP)?, wanted)?;
    Ok((credentials, wanted.user.map_or(Ok(Vec::new()), |user| login(&passwd, user))?))
}

/// What login(1) would set, as far as the entry tells; of a number without an entry nothing is known.
fn login(passwd: &str, user: &str) -> Result<Vec<(String, String)>, Error> {
    let Account { name, home, shell, .. } = find_user(passwd, user)?;
    let values = [home, name, shell, name];
    let known = LOGIN.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?)));
    let known = known.filter(|(_, value)| !value.is_empty() && !value.contains('\0'));
    Ok(known.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// A file that is not there holds nobody: in a container, numbers must do.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_LEN_MAX).read_to_end(&mut bytes)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
        Err(e) => return Err(e),
    };
    // People's full names may be in any encoding; they are not what we look at.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Looks up whom the spec asks for in the text of the two files.
pub fn resolve(passwd: &str, group: &str, wanted: &Wanted<'_>) -> Result<Credentials, Error> {
    let mut credentials = Credentials::default();
    if let Some(user) = wanted.user {
        let account = find_user(passwd, user)?;
        credentials.uid = Some(account.uid);
        credentials.gid = account.gid;
        if let (Some(name), Some(gid)) = (account.name, account.gid) {
            credentials.groups = Some(groups_of(group, name, gid));
        }
    }
    if let Some(wanted) = wanted.group {
        credentials.gid = Some(find_group(group, wanted)?);
    }
    if let (Some(user), None) = (wanted.user, credentials.gid) {
        // Staying in the service's group would leave a stranger in root's.
        return Err(Error::new(
            Code::Failed,
            format!("user {} is not in {PASSWD}: no group is known", quoted(user)),
        )
        .hint("give one with --group"));
    }
    if !wanted.groups.is_empty() {
        let groups = wanted.groups.iter().map(|wanted| find_group(group, wanted));
        credentials.groups = Some(groups.collect::<Result<_, _>>()?);
    } else if wanted.user.is_some() && credentials.groups.is_none() {
        // Not the service's own: those are root's.
        credentials.groups = Some(credentials.gid.into_iter().collect());
    }
    Ok(credentials)
}

/// What is known of a user; a number without an entry is all that is known of itself.
struct Account<'a> {
    name: Option<&'a str>,
    uid: u32,
    gid: Option<u32>,
    home: Option<&'a str>,
    shell: Option<&'a str>,
}

/// A name counts before a number, as chown(1) has it; the first entry counts, as for the C library.
fn find_user<'a>(passwd: &'a str, wanted: &str) -> Result<Account<'a>, Error> {
    let number = number(wanted);
    let mut by_number = None;
    for line in passwd.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(_), Some(uid), Some(gid)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (Some(uid), Some(gid)) = (self::number(uid), self::number(gid)) else { continue };
        let (home, shell) = (fields.nth(1), fields.next());
        let account = Account { name: Some(name), uid, gid: Some(gid), home, shell };
        if name == wanted {
            return Ok(account);
        }
        if Some(uid) == number && by_number.is_none() {
            by_number = Some(account);
        }
    }
    let unknown = |uid| Account { name: None, uid, gid: None, home: None, shell: None };
    by_number.or(number.map(unknown)).ok_or_else(|| {
        Error::new(Code::Failed, format!("there is no user {}", quoted(wanted)))
            .hint(format!("a user is a name in {PASSWD} or a number"))
    })
}

fn find_group(group: &str, wanted: &str) -> Result<u32, Error> {
    let by_name = groups(group).find(|entry| entry.name == wanted).map(|entry| entry.gid);
    by_name.or_else(|| number(wanted)).ok_or_else(|| {
        Error::new(Code::Failed, format!("there is no group {}", quoted(wanted)))
            .hint(format!("a group is a name in {GROUP} or a number"))
    })
}

/// As initgroups(3): the user's own group first, then those that list the user.
fn groups_of(group: &str, user: &str, gid: u32) -> Vec<u32> {
    let mut all = vec![gid];
    for entry in groups(group).filter(|entry| entry.members.split(',').any(|member| member == user)) {
        if all.len() < GROUPS_MAX && !all.contains(&entry.gid) {
            all.push(entry.gid);
        }
    }
    all
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Every line that is one; comments, NIS markers and damage are passed over.
fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, number(fields.next()?)?);
        Some(Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

/// A user's or group's number. The highest stands for "do not change" in the system calls and names nobody.
fn number(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|&n| is_number && n != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_told_who_they_are() {
        let passwd = "web:x:33:33:Web, Server:/var/www:/bin/sh\nbare:x:34:34\n";
        let variables = |user| {
            let login = login(passwd, user).unwrap();
            login.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(variables("web"), "HOME=/var/www LOGNAME=web SHELL=/bin/sh USER=web");
        assert_eq!(variables("33"), variables("web"));
        assert_eq!(variables("bare"), "LOGNAME=bare USER=bare");
        assert_eq!(variables("35"), "", "nothing is known of a number without an entry");
    }

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
# a comment
+nis
broken:x:abc:1
short:x
www:x:33:33:www:/var/www:/usr/sbin/nologin
twin:x:33:44::/:
1000:x:7:8:a name of digits:/:
bob:x:1000:1000::/home/bob:/bin/sh
www:x:99:99:a second entry:/:
";
    const GROUP: &str = "\
root:x:0:
www:x:33:
adm:x:4:syslog,bob
docker:x:998:bob
bobs:x:1000:bob
nomembers:x:5
bad:x:no:bob
sub:x:6:bobby
";

    fn who(uid: Option<u32>, gid: Option<u32>, groups: Option<Vec<u32>>) -> Credentials {
        Credentials { uid, gid, groups }
    }

    fn resolved(user: Option<&str>, group: Option<&str>, groups: &[&str]) -> Result<Credentials, Error> {
        let groups: Vec<String> = groups.iter().map(|&g| g.to_owned()).collect();
        resolve(PASSWD, GROUP, &Wanted { user, group, groups: &groups })
    }

    #[test]
    fn a_user_brings_its_groups() {
        assert_eq!(
            resolved(Some("bob"), None, &[]),
            Ok(who(Some(1000), Some(1000), Some(vec![1000, 4, 998])))
        );
        assert_eq!(resolved(Some("www"), None, &[]), Ok(who(Some(33), Some(33), Some(vec![33]))));
        assert_eq!(resolved(Some("33"), None, &[]), Ok(who(Some(33), Some(33), Some(vec![33]))));
        assert_eq!(resolved(Some("0"), None, &[]), Ok(who(Some(0), Some(0), Some(vec![0]))));
    }

    #[test]
    fn a_name_counts_before_a_number() {
        assert_eq!(resolved(Some("1000"), None, &[]), Ok(who(Some(7), Some(8), Some(vec![8]))));
    }

    #[test]
    fn group_and_groups_replace_the_users_own() {
        assert_eq!(resolved(Some("bob"), Some("adm"), &[]).unwrap().gid, Some(4));
        assert_eq!(
            resolved(Some("bob"), None, &["docker", "12"]),
            Ok(who(Some(1000), Some(1000), Some(vec![998, 12])))
        );
        assert_eq!(resolved(None, Some("nomembers"), &[]), Ok(who(None, Some(5), None)));
        assert_eq!(resolved(None, None, &["adm"]), Ok(who(None, None, Some(vec![4]))));
        assert_eq!(resolved(None, None, &[]), Ok(who(None, None, None)));
    }

    #[test]
    fn a_number_without_an_entry_needs_a_group() {
        let error = resolved(Some("4242"), None, &[]).unwrap_err();
        assert_eq!(error.message, "user '4242' is not in /etc/passwd: no group is known");
        assert_eq!(
            resolved(Some("4242"), Some("4343"), &[]),
            Ok(who(Some(4242), Some(4343), Some(vec![4343])))
        );
    }

    #[test]
    fn who_is_not_there_is_named() {
        for (user, group, groups, message) in [
            (Some("nobody-here"), None, &[][..], "there is no user 'nobody-here'"),
            (Some("broken"), None, &[], "there is no user 'broken'"),
            (Some("-1"), None, &[], "there is no user '-1'"),
            (Some("+5"), None, &[], "there is no user '+5'"),
            (Some("4294967295"), None, &[], "there is no user '4294967295'"),
            (Some("bob"), Some("nope"), &[], "there is no group 'nope'"),
            (None, None, &["adm", "nope\n"], "there is no group 'nope\\n'"),
        ] {
            assert_eq!(resolved(user, group, groups).unwrap_err().message, message);
        }
    }

    #[test]
    fn this_host_has_root() {
        let (credentials, variables) =
            look_up(&Wanted { user: Some("root"), group: None, groups: &[] }).unwrap();
        assert!(variables.contains(&("USER".to_owned(), "root".to_owned())), "{variables:?}");
        assert_eq!((credentials.uid, credentials.gid), (Some(0), Some(0)));
    }
}
