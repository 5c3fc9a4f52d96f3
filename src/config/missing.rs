//! What a process needs and this machine does not have: its program, directories, user, groups, processors.
//! It is told to whoever checks a definition, and is no error: it may be there in time.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

use crate::engine::process::users::{self, Wanted};
#[cfg(feature = "gateway")]
use crate::gateway::settings::GatewaySettings;
#[cfg(feature = "gateway")]
use crate::tls::material::Files;
use crate::wire::hooks::When;
use crate::wire::id::quoted;
use crate::wire::probes::Readiness;
use crate::wire::spec::Spec;

/// A sentence for each; none of what we may not look at.
#[must_use]
pub fn missing(spec: &Spec) -> Vec<String> {
    let mut missing = Vec::new();
    missing.extend(of_program(spec, "program", &spec.command));
    for when in When::ALL {
        let command = &spec.hooks.of(when).command;
        missing.extend(of_program(spec, &format!("hook {}", when.name()), command));
    }
    if let Some(Readiness::Exec(command)) = &spec.ready {
        missing.extend(of_program(spec, "readiness check", command));
    }
    let logs = spec.log.paths().into_iter().flatten().map(Path::new).filter(|log| log.is_absolute());
    let directories = (spec.cwd.as_deref().map(|cwd| ("directory", Path::new(cwd))).into_iter())
        .chain(logs.filter_map(Path::parent).map(|directory| ("log's directory", directory)));
    for (what, path) in directories.filter(|(_, path)| matches!(path.try_exists(), Ok(false))) {
        let shown = quoted(&path.to_string_lossy());
        missing
            .push(format!("its {what} {shown} is not there, and has to be before a start: mkdir -p {shown}"));
    }
    let wanted = Wanted { user: spec.user.as_deref(), group: spec.group.as_deref(), groups: &spec.groups };
    missing.extend(users::look_up(&wanted).err().map(|e| e.message));
    missing.extend(of_processors(spec));
    missing
}

/// The same of groups that have roles, by those that there are not.
#[must_use]
pub fn missing_groups(unknown: &[String]) -> Vec<String> {
    let said = |name: &String| {
        format!("[local.group_roles]: there is no group {}: nobody has its role", quoted(name))
    };
    unknown.iter().map(said).collect()
}

/// The same of the gateway's files.
#[cfg(feature = "gateway")]
#[must_use]
pub fn missing_files(grpc: &GatewaySettings) -> Vec<String> {
    let Files { certificate, key, ca, .. } = &grpc.files;
    let users = grpc.users.path();
    let certificates = [certificate, key, ca].map(|path| (path, "'provost cert init' makes it"));
    let all = certificates.into_iter().chain(users.iter().map(|path| (path, "'provost user add' makes it")));
    all.filter(|(path, _)| matches!(path.try_exists(), Ok(false)))
        .map(|(path, how)| format!("[grpc]: {} is not there: {how}", quoted(&path.to_string_lossy())))
        .collect()
}

/// Who means half of one and writes 50 gets no limit at all.
fn of_processors(spec: &Spec) -> Option<String> {
    let (wanted, there) = (f64::from(spec.cgroup.cpu_quota?) / 1000.0, available_parallelism().ok()?.get());
    let is_more = wanted > f64::from(u32::try_from(there).ok()?);
    is_more.then(|| {
        format!(
            "cpu_quota of {wanted} processors is more than there are here ({there}): half of one is \"50%\""
        )
    })
}

fn of_program(spec: &Spec, what: &str, command: &[String]) -> Option<String> {
    let program = command.first()?;
    let shown = quoted(program);
    if !program.contains('/') {
        let is_there = looked_up(spec)?.into_iter().any(|directory| directory.join(program).is_file());
        let each = if program.contains(' ') {
            "; each argument is a text of its own: [\"PROGRAM\", \"ARGUMENT\"]"
        } else {
            ""
        };
        return (!is_there).then(|| format!("there is no {what} {shown} where PATH leads here{each}"));
    }
    let path = spec.cwd.as_deref().map_or_else(PathBuf::new, PathBuf::from).join(program);
    // Else it begins where the service is.
    if !path.is_absolute() {
        return None;
    }
    match fs::metadata(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Some(format!("its {what} {shown} is not there")),
        Ok(found) if found.is_dir() => Some(format!("its {what} {shown} is a directory")),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            let path = quoted(&path.to_string_lossy());
            Some(format!("its {what} {shown} is not executable: chmod +x {}", path.trim_matches('\'')))
        }
        Ok(_) | Err(_) => None,
    }
}

/// Where a program without a slash is looked for; none, if only the service can tell.
fn looked_up(spec: &Spec) -> Option<Vec<PathBuf>> {
    let own = spec.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, path)| path);
    if own.is_some_and(|path| path.contains('$')) {
        return None;
    }
    let path = own.map(Into::into).or_else(|| env::var_os("PATH")).unwrap_or_default();
    Some(env::split_paths(&path).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_and_what_is_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("run.sh");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        let script = script.to_string_lossy().into_owned();
        let of = |change: &dyn Fn(&mut Spec)| {
            let mut spec = Spec::new(["sleep", "1"]);
            change(&mut spec);
            missing(&spec).join("; ")
        };
        let command = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(of(&|_| ()), "");
        assert!(of(&|s| s.command = command(&["no-such-program"])).contains("no program 'no-such-program'"));
        assert!(of(&|s| s.command = command(&["sleep 1"])).contains("a text of its own"));
        assert!(of(&|s| s.command = command(&["/no/such"])).contains("program '/no/such' is not there"));
        assert!(of(&|s| s.command = command(&["/"])).contains("is a directory"));
        assert_eq!(
            of(&|s| s.command = command(&[&script])),
            format!("its program '{script}' is not executable: chmod +x {script}")
        );
        let (base, name) = script.rsplit_once('/').unwrap();
        let relative = |s: &mut Spec| {
            s.command = command(&[&format!("./{name}")]);
            s.cwd = Some(base.to_owned());
        };
        assert!(of(&relative).contains("is not executable"));
        assert!(of(&|s| s.cwd = Some("/no/such".into())).contains("directory '/no/such' is not there"));
        assert!(of(&|s| s.user = Some("no-such-user".into())).contains("no user 'no-such-user'"));
        assert!(of(&|s| s.group = Some("no-such-group".into())).contains("no group 'no-such-group'"));
        let quota = |thousandths| move |s: &mut Spec| s.cgroup.cpu_quota = Some(thousandths);
        assert_eq!(of(&quota(500)), "");
        assert!(of(&quota(4_000_000)).contains("cpu_quota of 4000 processors is more than there are here"));
        // The process's own PATH counts; one that only the service can tell says nothing.
        let path = |path: &str| vec![("PATH".to_owned(), path.to_owned())];
        assert!(of(&|s| s.env = path("/no/such")).contains("no program 'sleep'"));
        assert_eq!(of(&|s| s.env = path("/no/such:${PATH}")), "");
    }
}
