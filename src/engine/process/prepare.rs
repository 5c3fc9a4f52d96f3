//! From a spec to a launch: everything that a child needs between fork and exec is looked up here, so that
//! the child itself looks up nothing. Reads the user database; starts nothing.

use std::borrow::Cow;

use uuid::Uuid;

use crate::engine::look::{PROVOST_ID, PROVOST_SERVICE};
use crate::engine::process::env::{self, Layers, Merged, Vars};
use crate::engine::process::failure;
use crate::engine::process::users::{self, Credentials, LOGIN, Wanted};
use crate::sys::landlock;
use crate::sys::limits;
use crate::sys::system;
use crate::wire::error::{Code, Error};
use crate::wire::id::{Name, ProcessId, quoted};
use crate::wire::launch::Launch;
use crate::wire::spec::{EnvBase, STRINGS_LEN_MAX, Spec};
use crate::wire::strings::Strings;

/// Where programs are looked up when the child's environment has no PATH.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
/// The same for root, whose programs are also elsewhere.
const PATH_DEFAULT_ROOT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The most directories of a PATH: far more than anybody has, and little enough to try them all.
const PATH_DIRS_MAX: usize = 1000;
/// The longest file name on Linux, in bytes.
const FILE_NAME_LEN_MAX: usize = 255;
const PROVOST_NAME: &str = "PROVOST_NAME";
const PROVOST_RUN: &str = "PROVOST_RUN";
const PROVOST_INSTANCE: &str = "PROVOST_INSTANCE";

/// Who the child is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: ProcessId,
    /// Its name, if it has one.
    pub name: Option<Name>,
    /// The run that is to start.
    pub run: u64,
    /// 1..N among instances.
    pub instance: Option<u32>,
    pub service: Uuid,
    /// Where it says how it is, if it does.
    pub more: Variables,
}

/// Variables of an environment, in order.
pub type Variables = Vec<(String, String)>;

impl Identity {
    fn variables(&self) -> Vec<(String, String)> {
        let name = self.name.as_ref().map_or("", Name::as_str);
        let mut variables = vec![
            (PROVOST_ID.to_owned(), self.id.to_string()),
            (PROVOST_NAME.to_owned(), name.to_owned()),
            (PROVOST_RUN.to_owned(), self.run.to_string()),
            (PROVOST_SERVICE.to_owned(), self.service.to_string()),
        ];
        variables.extend(self.more.iter().cloned());
        variables.extend(self.instance.map(|n| (PROVOST_INSTANCE.to_owned(), n.to_string())));
        variables
    }
}

/// What of the service's own environment is a child's to inherit. A service that is itself the child of
/// another one has that one's number.
#[must_use]
pub fn is_inherited(key: &str) -> bool {
    key != PROVOST_INSTANCE
}

/// A launch, and what is odd about it.
#[derive(Debug)]
pub struct Prepared {
    pub launch: Launch,
    /// Variables that refer to what is not set, and those names.
    pub unset: Variables,
}

/// Resolves a spec against this host and the environments of the moment.
pub fn prepare(
    spec: &Spec,
    identity: &Identity,
    global_env: &Vars,
    service_env: &Vars,
) -> Result<Prepared, Error> {
    let instance = identity.variables();
    let wanted = Wanted { user: spec.user.as_deref(), group: spec.group.as_deref(), groups: &spec.groups };
    let (credentials, login) = users::look_up(&wanted)?;
    let credentials = changes_needed(credentials, spec);
    let base = match spec.env_base {
        EnvBase::Empty => &[],
        EnvBase::Service => service_env,
    };
    let of_user;
    let base = if spec.user.is_some() {
        // Who the service is has nothing to do with another user.
        let others = base.iter().filter(|(key, _)| !LOGIN.contains(&key.as_str())).cloned();
        of_user = others.chain(login).collect::<Vec<_>>();
        &of_user
    } else {
        base
    };
    let Merged { vars: env, unset } = env::merge(&Layers {
        base,
        global: global_env,
        spec: &spec.env,
        expand: spec.env_expand,
        instance: &instance,
    })?;
    let strings_len = check_size(spec, &env)?;
    let cwd = spec.cwd.as_deref().unwrap_or("/");
    let path = env.iter().find(|(key, _)| *key == "PATH").map_or_else(
        || {
            let is_root = credentials.uid.unwrap_or_else(system::euid) == 0;
            if is_root { PATH_DEFAULT_ROOT } else { PATH_DEFAULT }
        },
        |(_, value)| value,
    );
    let landlock = &spec.landlock;
    if !landlock.is_empty() && !landlock.optional && landlock::version().is_err() {
        return Err(failure::no_landlock());
    }
    let (mut argv, mut strings) = (Strings::default(), Strings::with_capacity(strings_len));
    spec.command.iter().try_for_each(|arg| argv.push(&[arg]))?;
    env.iter().try_for_each(|(key, value)| strings.push(&[key, "=", value]))?;
    let unset = unset.into_iter().map(|(key, name)| (key.to_owned(), name)).collect();
    let launch = Launch {
        candidates: candidates(&spec.command[0], path, cwd)?,
        argv,
        env: strings,
        cwd: cwd.to_owned(),
        uid: credentials.uid,
        gid: credentials.gid,
        groups: credentials.groups,
        umask: spec.umask,
        nice: spec.nice,
        oom_score_adj: spec.oom_score_adj,
        no_new_privs: spec.no_new_privs,
        rlimits: rlimits(spec)?,
        by_descriptor: false,
        readable: all(&landlock.read)?,
        writable: all(&landlock.write)?,
        landlock_optional: landlock.optional,
        merge_streams: spec.merge_streams,
        outlives: false,
    };
    Ok(Prepared { launch, unset })
}

/// What `Spec::check` did for the spec alone, for all that the kernel will see.
/// Returns how much the variables take.
fn check_size(spec: &Spec, env: &[(&str, Cow<'_, str>)]) -> Result<usize, Error> {
    let args: usize = spec.command.iter().map(|arg| arg.len() + 9).sum();
    let vars: usize = env.iter().map(|(key, value)| key.len() + value.len() + 10).sum();
    if args + vars > STRINGS_LEN_MAX {
        return Err(Error::usage(format!(
            "arguments ({args} bytes) and environment ({vars} bytes) are over the limit of {STRINGS_LEN_MAX}"
        ))
        .hint(
            "pass large data through a file or a socket; --clear-env leaves out the service's environment",
        ));
    }
    Ok(vars)
}

/// Without root nothing can be changed, and it need not be where the child stays who the service is.
fn changes_needed(wanted: Credentials, spec: &Spec) -> Credentials {
    let (euid, egid) = (system::euid(), system::egid());
    if euid == 0 || wanted.uid != Some(euid) {
        return wanted;
    }
    Credentials {
        uid: None,
        gid: wanted.gid.filter(|&gid| gid != egid),
        groups: wanted.groups.filter(|_| !spec.groups.is_empty()),
    }
}

fn all(texts: &[String]) -> Result<Strings, Error> {
    let mut strings = Strings::default();
    texts.iter().try_for_each(|text| strings.push(&[text]))?;
    Ok(strings)
}

fn rlimits(spec: &Spec) -> Result<Vec<(u32, u64, u64)>, Error> {
    let resolve = |limit: &crate::wire::spec::Rlimit| {
        let number = limits::rlimit_number(&limit.resource).ok_or_else(|| {
            let names: Vec<_> = limits::rlimit_names().collect();
            Error::usage(format!("there is no limit {}", quoted(&limit.resource)))
                .hint(format!("limits are {}", names.join(", ")))
        })?;
        Ok((number, limit.soft, limit.hard))
    };
    spec.rlimits.iter().map(resolve).collect()
}

/// The paths to try, in order, as execvp(3) has it: a program with a slash is a path; any other is looked up
/// in the directories of PATH, an empty one being the working directory.
fn candidates(program: &str, path: &str, cwd: &str) -> Result<Strings, Error> {
    let mut candidates = Strings::default();
    if program.contains('/') {
        push_path(&mut candidates, cwd, &[program])?;
        return Ok(candidates);
    }
    if program.len() > FILE_NAME_LEN_MAX {
        return Err(Error::new(
            Code::ProgramNotFound,
            format!("cannot start: there is no program {}: no file has so long a name", quoted(program)),
        ));
    }
    let dirs = path.split(':').count();
    if dirs > PATH_DIRS_MAX {
        return Err(Error::usage(format!("PATH has {dirs} directories, the limit is {PATH_DIRS_MAX}"))
            .hint("give the program with its path, or a shorter PATH with --env"));
    }
    for dir in path.split(':') {
        push_path(&mut candidates, cwd, &[dir, if dir.is_empty() { "" } else { "/" }, program])?;
    }
    Ok(candidates)
}

/// Adds a path made of these parts, from `cwd` where it is a relative one.
fn push_path(candidates: &mut Strings, cwd: &str, parts: &[&str]) -> Result<(), Error> {
    if parts.iter().find(|part| !part.is_empty()).is_some_and(|part| part.starts_with('/')) {
        return candidates.push(parts);
    }
    candidates.push(&[&[cwd.trim_end_matches('/'), "/"], parts].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::spec::{EnvExpand, Rlimit};

    fn identity() -> Identity {
        Identity {
            id: ProcessId::new(),
            name: Some("web-2".parse().unwrap()),
            run: 7,
            instance: Some(2),
            service: Uuid::nil(),
            more: Vec::new(),
        }
    }

    fn vars(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn texts(list: &Strings) -> Vec<&str> {
        list.iter().map(|text| text.to_str().unwrap()).collect()
    }

    fn prepared(change: impl FnOnce(&mut Spec)) -> Result<Launch, Error> {
        let mut spec = Spec::new(["prog", "a b", "$HOME"]);
        change(&mut spec);
        let own = vars(&[("PATH", "/x:/y"), ("S", "own")]);
        prepare(&spec, &identity(), &vars(&[("G", "global")]), &own).map(|prepared| prepared.launch)
    }

    #[test]
    fn the_child_knows_who_it_is() {
        let identity = identity();
        assert!(!is_inherited("PROVOST_INSTANCE"), "an outer service's");
        let outer = vars(&[("PROVOST_NAME", "outer"), ("PROVOST_ID", "outer")]);
        let launch = prepare(&Spec::new(["x"]), &identity, &[], &outer).unwrap().launch;
        let id = format!("PROVOST_ID={}", identity.id);
        for expected in [id.as_str(), "PROVOST_NAME=web-2", "PROVOST_RUN=7", "PROVOST_INSTANCE=2"] {
            assert!(texts(&launch.env).contains(&expected), "{expected} in {:?}", texts(&launch.env));
        }
        assert_eq!(launch.env.count(), 5);
        let single = Identity { name: None, instance: None, ..identity };
        let launch = prepare(&Spec::new(["x"]), &single, &[], &outer).unwrap().launch;
        assert!(texts(&launch.env).contains(&"PROVOST_NAME="));
        assert_eq!(launch.env.count(), 4);
    }

    #[test]
    fn arguments_pass_untouched_and_the_base_can_be_left_out() {
        let launch = prepared(|_| ()).unwrap();
        assert_eq!(texts(&launch.argv), ["prog", "a b", "$HOME"]);
        assert_eq!(texts(&launch.candidates), ["/x/prog", "/y/prog"]);
        // Behind who it is.
        assert_eq!(texts(&launch.env)[5..], ["PATH=/x:/y", "S=own", "G=global"]);
        assert_eq!((launch.cwd.as_str(), launch.uid, launch.groups), ("/", None, None));
        let launch = prepared(|spec| spec.env_base = EnvBase::Empty).unwrap();
        assert_eq!(texts(&launch.env)[5..], ["G=global"]);
    }

    #[test]
    fn another_user_is_not_told_who_the_service_is() {
        let service = vars(&[("HOME", "/own"), ("USER", "own"), ("S", "own")]);
        let env = |user: Option<&str>, env: &[(&str, &str)]| {
            let mut spec = Spec::new(["/x"]);
            (spec.user, spec.env) = (user.map(str::to_owned), vars(env));
            let launch = prepare(&spec, &identity(), &[], &service).unwrap().launch;
            texts(&launch.env).join(" ")
        };
        let as_root = env(Some("root"), &[]);
        assert!(
            as_root.contains("S=own HOME=/root LOGNAME=root ") && as_root.contains(" USER=root"),
            "{as_root}"
        );
        assert!(
            env(Some("root"), &[("HOME", "/asked")]).contains("HOME=/asked"),
            "what was asked for counts"
        );
        assert!(env(None, &[]).contains("HOME=/own"));
    }

    #[test]
    fn a_program_is_found_as_execvp_finds_it() {
        let found = |program: &str, path: &str, cwd: &str| {
            let found = candidates(program, path, cwd).unwrap();
            texts(&found).join(" ")
        };
        assert_eq!(found("a", "/bin:/usr/bin", "/"), "/bin/a /usr/bin/a");
        assert_eq!(found("a", ":/bin:rel:", "/tmp"), "/tmp/a /bin/a /tmp/rel/a /tmp/a");
        assert_eq!(found("a", "", "/"), "/a");
        assert_eq!(found("/x/a", "/bin", "/tmp"), "/x/a");
        assert_eq!(found("./a", "/bin", "/tmp"), "/tmp/./a");
        assert_eq!(found("x/a", "/bin", "/"), "/x/a");
        assert!(candidates(&"a".repeat(256), "/bin", "/").is_err());
        assert!(candidates("a", &":".repeat(PATH_DIRS_MAX), "/").is_err());
    }

    #[test]
    fn the_childs_own_path_counts() {
        let launch = prepared(|spec| spec.env.push(("PATH".into(), "/opt:${PATH}".into()))).unwrap();
        assert_eq!(texts(&launch.candidates), ["/opt/prog", "/x/prog", "/y/prog"]);
        let launch = prepared(|spec| spec.env_base = EnvBase::Empty).unwrap();
        assert!(texts(&launch.candidates).contains(&"/usr/bin/prog"));
    }

    #[test]
    fn limits_are_resolved_by_name() {
        let with = |resource: &str| {
            let limit = Rlimit { resource: resource.into(), soft: 1, hard: u64::MAX };
            prepared(|spec| spec.rlimits.push(limit))
        };
        let number = limits::rlimit_number("nofile").unwrap();
        assert_eq!(with("nofile").unwrap().rlimits, [(number, 1, u64::MAX)]);
        assert_eq!(with("files").unwrap_err().message, "there is no limit 'files'");
    }

    #[test]
    fn users_are_resolved_by_name() {
        let launch =
            prepared(|spec| (spec.user, spec.groups) = (Some("root".into()), vec!["7".into()])).unwrap();
        assert_eq!(launch.groups, Some(vec![7]));
        assert!(launch.uid == Some(0) || system::euid() == 0);
        let error = prepared(|spec| spec.user = Some("no-such-user".into())).unwrap_err();
        assert_eq!(error.message, "there is no user 'no-such-user'");
    }

    #[test]
    fn without_root_staying_oneself_changes_nothing() {
        let (uid, gid) = (system::euid(), system::egid());
        let current = Credentials { uid: Some(uid), gid: Some(gid), groups: Some(vec![gid]) };
        let needed = changes_needed(current.clone(), &Spec::new(["x"]));
        assert_eq!(needed, if uid == 0 { current } else { Credentials::default() });
    }

    #[test]
    fn what_expansion_makes_too_large_is_refused() {
        let big = "x".repeat(100_000);
        let launch = |expand| {
            prepared(|spec| {
                spec.env_expand = expand;
                spec.env.push(("A".into(), big.clone()));
                spec.env.extend((0..15).map(|n| (format!("B{n}"), "${A}".to_owned())));
                spec.command.extend(std::iter::repeat_n(big.clone(), 9));
            })
        };
        assert!(launch(EnvExpand::Literal).is_ok());
        let error = launch(EnvExpand::Once).unwrap_err();
        assert!(error.message.starts_with("arguments (900"), "{error}");
    }
}
