//! Failed starts: from the step and errno that the child left behind to what a person needs to know. The
//! errno alone says too little (ENOENT is a missing program as well as a missing interpreter), so the file
//! itself is looked at.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::sys::O_NONBLOCK;
use crate::sys::errno::{
    E2BIG, EACCES, EAGAIN, EINVAL, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENFILE, ENOENT, ENOEXEC, ENOMEM,
    ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM, ETXTBSY,
};
use crate::sys::limits;
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;
use crate::wire::keeper::Step;
use crate::wire::launch::Launch;
use crate::wire::process::{LOOKED_UP, StartFailure};
use crate::wire::spec::Spec;

/// The longest object of a failure, in bytes: it lies in the record's page.
const OBJECT_LEN_MAX: usize = 512;

/// What is remembered of a failed start.
#[must_use]
pub fn remember(step: Step, errno: i32, launch: &Launch) -> StartFailure {
    let list = |numbers: &[u32]| numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let object = match step {
        Step::Exec => executed(launch),
        Step::Chdir => launch.cwd.clone(),
        Step::SetUid => list(launch.uid.as_slice()),
        Step::SetGid => list(launch.gid.as_slice()),
        Step::Groups => list(launch.groups.as_deref().unwrap_or_default()),
        Step::Nice => launch.nice.map(|n| n.to_string()).unwrap_or_default(),
        Step::OomScore => launch.oom_score_adj.map(|n| n.to_string()).unwrap_or_default(),
        Step::Limits => launch.rlimits.iter().map(limit).collect::<Vec<_>>().join(","),
        Step::Landlock => unreachable(launch),
        Step::Pipe | Step::Fork | Step::Memory | Step::Session | Step::Descriptors | Step::NoNewPrivs => {
            String::new()
        }
    };
    StartFailure { step: step.name().to_owned(), errno, object: cut(object) }
}

/// What of a launch is certainly not there: its directory or its program. What cannot be looked at may be.
#[must_use]
pub fn missing(launch: &Launch) -> Option<StartFailure> {
    let cwd = Path::new(&launch.cwd);
    let is_gone =
        |path: &Path| fs::metadata(path).is_err_and(|e| matches!(e.raw_os_error(), Some(ENOENT | ENOTDIR)));
    if !launch.cwd.is_empty() && is_gone(cwd) {
        return Some(remember(Step::Chdir, ENOENT, launch));
    }
    let mut candidates = launch.candidates.iter().map(|path| cwd.join(text(path.to_bytes())));
    let is_missing = launch.candidates.count() > 0 && candidates.all(|path| is_gone(&path));
    is_missing.then(|| remember(Step::Exec, ENOENT, launch))
}

/// The file that exec was about: the first candidate that is there, as execvp(3) reports it. Of a look-up
/// that found nothing, the program and the directories.
fn executed(launch: &Launch) -> String {
    if launch.by_descriptor {
        return launch.argv.iter().next().map(|path| text(path.to_bytes())).unwrap_or_default();
    }
    let candidates: Vec<_> = launch.candidates.iter().map(|path| text(path.to_bytes())).collect();
    if let Some(there) = candidates.iter().find(|path| fs::symlink_metadata(path).is_ok()) {
        return there.clone();
    }
    let parts = |path: &str| path.rsplit_once('/').map(|(dir, name)| (dir.to_owned(), name.to_owned()));
    match candidates.as_slice() {
        [path] => path.clone(),
        all => {
            let (dirs, names): (Vec<_>, Vec<_>) = all.iter().filter_map(|path| parts(path)).unzip();
            format!("{}{LOOKED_UP}{}", names.first().map_or("", String::as_str), dirs.join(":"))
        }
    }
}

/// The path that landlock is to allow and that is not there; none that we see.
fn unreachable(launch: &Launch) -> String {
    let mut paths = launch.readable.iter().chain(launch.writable.iter()).map(|path| text(path.to_bytes()));
    paths.find(|path| fs::metadata(path).is_err()).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn limit(&(resource, soft, hard): &(u32, u64, u64)) -> String {
    let value = |n: u64| if n == u64::MAX { "unlimited".to_owned() } else { n.to_string() };
    format!("{}={}:{}", limits::rlimit_name(resource).unwrap_or("?"), value(soft), value(hard))
}

fn cut(mut object: String) -> String {
    while object.len() > OBJECT_LEN_MAX {
        object.pop();
    }
    object
}

/// A failed start in words: what it was about, the cause, the next step.
#[must_use]
pub fn explain(failure: &StartFailure, spec: &Spec) -> Error {
    match (Step::from_name(&failure.step), failure.errno) {
        (_, ENOMEM) => error(Code::Failed, "the system is out of memory")
            .hint("free some, or see the limits of the service's cgroup"),
        (_, EMFILE | ENFILE) => error(Code::Refused, "the service is out of file descriptors")
            .hint("raise its limit of open files ('ulimit -n', LimitNOFILE=), or remove stopped processes"),
        (Some(Step::Exec), _) => explain_exec(failure, spec),
        (Some(Step::Chdir), _) => explain_chdir(failure, spec),
        (Some(Step::Fork), EAGAIN) => error(Code::Refused, "the limit of processes is reached")
            .hint("see 'ulimit -u', /proc/sys/kernel/pid_max, and pids.max of the service's cgroup"),
        (Some(Step::SetUid), EAGAIN) => {
            let user = wanted(spec.user.as_ref(), failure);
            error(Code::Refused, format!("user {user} has reached its limit of processes"))
                .hint("end some of them, or raise the limit: --limit nproc=N")
        }
        (Some(Step::Landlock), ENOSYS | EOPNOTSUPP) => no_landlock(),
        (Some(Step::Landlock), ENOENT | ENOTDIR | EACCES) => {
            let what = format!("landlock cannot allow {}: {}", quoted(&failure.object), cause(failure.errno));
            error(Code::Failed, what).hint("make it, or leave it out")
        }
        (Some(Step::Limits), EPERM | EINVAL) => {
            let limits = quoted(&failure.object);
            error(Code::Refused, format!("limits {limits} cannot be set: {}", cause(failure.errno)))
                .hint("only root may raise a hard limit, and nofile only up to /proc/sys/fs/nr_open")
        }
        (Some(step), EPERM | EACCES) => explain_not_allowed(step, failure, spec),
        (Some(_) | None, _) => generic(failure, spec),
    }
}

/// Every message begins alike, so that it reads well behind the target's name.
fn error(code: Code, what: impl fmt::Display) -> Error {
    Error::new(code, format!("cannot start: {what}"))
}

/// What the child becomes takes rights that the service has to have.
fn explain_not_allowed(step: Step, failure: &StartFailure, spec: &Spec) -> Error {
    let object = &failure.object;
    let what = match step {
        Step::SetUid => format!("become user {}", wanted(spec.user.as_ref(), failure)),
        Step::Groups if !spec.groups.is_empty() => format!("change to the groups {object}"),
        // What nobody named comes with the group, or with the user.
        Step::SetGid | Step::Groups => match (&spec.group, &spec.user) {
            (None, Some(user)) => format!("become user {}", quoted(user)),
            (group, _) => format!("change to group {}", wanted(group.as_ref(), failure)),
        },
        Step::Nice => format!("set nice to {object}"),
        Step::OomScore => format!("set the oom score adjustment to {object}"),
        Step::Pipe
        | Step::Fork
        | Step::Memory
        | Step::Session
        | Step::Descriptors
        | Step::Limits
        | Step::NoNewPrivs
        | Step::Chdir
        | Step::Landlock
        | Step::Exec => return generic(failure, spec),
    };
    error(Code::Refused, format!("the service may not {what}"))
        .hint("run the service as root, or leave the option out")
}

/// The kernel cannot do what the spec asks for.
pub fn no_landlock() -> Error {
    error(Code::Refused, "this kernel has no landlock, or it was not switched on")
        .hint("leave it out, or mark it as optional: --landlock-optional")
}

fn generic(failure: &StartFailure, spec: &Spec) -> Error {
    let object =
        if failure.object.is_empty() { String::new() } else { format!(" {}", quoted(&failure.object)) };
    let (program, step) = (quoted(&spec.command[0]), &failure.step);
    let what = format!("{program} failed at the step {step}{object}: {}", cause(failure.errno));
    error(Code::Failed, &what)
}

/// The user or group as the spec has it, else its number.
fn wanted(in_spec: Option<&String>, failure: &StartFailure) -> String {
    quoted(in_spec.unwrap_or(&failure.object))
}

/// The errno in words: "no such file or directory (errno 2)".
pub(super) fn cause(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    format!("{}{} (errno {errno})", first.map(String::from).unwrap_or_default(), chars.as_str())
}

fn explain_chdir(failure: &StartFailure, spec: &Spec) -> Error {
    let dir = quoted(spec.cwd.as_deref().unwrap_or(&failure.object));
    let what = match failure.errno {
        ENOENT => format!("the working directory {dir} does not exist"),
        ENOTDIR => format!("the working directory {dir} is not a directory"),
        EACCES => format!("the working directory {dir} may not be entered by {}", user(spec)),
        errno => format!("the working directory {dir} cannot be entered: {}", cause(errno)),
    };
    error(Code::Failed, &what).hint(match failure.errno {
        EACCES => "let that user in, also to the directories above it, or give another one with --cwd",
        _ => "make it, or give another one with --cwd",
    })
}

fn user(spec: &Spec) -> String {
    spec.user
        .as_ref()
        .map_or_else(|| "the service's user".to_owned(), |user| format!("user {}", quoted(user)))
}

fn explain_exec(failure: &StartFailure, spec: &Spec) -> Error {
    let program = quoted(&spec.command[0]);
    let cannot = |what: &str| error(Code::CannotExecute, what);
    // The spec's own path if it is one: the remembered object may be cut.
    let path = match spec.command[0].as_str() {
        path if path.starts_with('/') => path,
        _ => &failure.object,
    };
    let shown = if path.contains(LOOKED_UP) { program.clone() } else { quoted(path) };
    match failure.errno {
        ENOENT | ENOTDIR => match fs::symlink_metadata(path) {
            Ok(_) if failure.errno == ENOENT => missing_part(path),
            _ => not_found(failure, spec),
        },
        EACCES if !spec.landlock.is_empty() => cannot(&format!("{shown} may not be executed")).hint(
            "landlock has to allow it, its interpreter and its libraries, as with --landlock-read /usr",
        ),
        EACCES => not_permitted(spec, path),
        ENOEXEC if begins_with(path, b"\x7fELF") => {
            cannot(&format!("{shown} is a program for another kind of machine"))
                .hint("use the one that was built for this machine")
        }
        ENOEXEC => cannot(&format!("{shown} is not a program and has no #! line"))
            .hint("begin it with a line like #!/bin/sh, or give it to its interpreter as an argument"),
        E2BIG => cannot(&format!("arguments and environment of {program} are too large for the kernel"))
            .hint("the limit is a quarter of the stack limit: raise it with --limit stack=, or pass less"),
        ETXTBSY => {
            cannot(&format!("{shown} is open for writing")).hint("start again when whoever writes it is done")
        }
        ELOOP => cannot(&format!("{shown} is behind too many symbolic links"))
            .hint("correct the links: 'namei -l' shows them"),
        ENAMETOOLONG => cannot(&format!("the path {shown} is too long"))
            .hint("give a relative path from --cwd, or move the program"),
        EISDIR => cannot(&format!("the interpreter of {shown} is a directory")),
        errno => cannot(&format!("{shown} cannot be executed: {}", cause(errno))),
    }
}

fn not_found(failure: &StartFailure, spec: &Spec) -> Error {
    let program = &spec.command[0];
    let not_found = error(Code::ProgramNotFound, format!("there is no program {}", quoted(program)));
    if program.starts_with('/') {
        return not_found.hint("check the path");
    }
    if program.contains('/') {
        return not_found
            .hint(format!("it would be {}; a relative path begins at --cwd", quoted(&failure.object)));
    }
    let object = &failure.object;
    let dirs = object.split_once(LOOKED_UP).map(|(_, dirs)| dirs);
    let dirs = dirs.or_else(|| object.rsplit_once('/').map(|(dir, _)| dir));
    let dirs = dirs.filter(|dirs| !dirs.is_empty()).unwrap_or("/");
    not_found.hint(format!("looked in {dirs}; give it with its path, or another PATH with --env"))
}

/// ENOENT though the file is there: something that it needs is not.
fn missing_part(path: &str) -> Error {
    let cannot = |what: String| error(Code::CannotExecute, what);
    let shown = quoted(path);
    if let Err(e) = fs::metadata(path)
        && e.kind() == io::ErrorKind::NotFound
    {
        let to = fs::read_link(path).unwrap_or_default();
        let what =
            format!("{shown} is a symbolic link to {}, which does not exist", quoted(&to.to_string_lossy()));
        return error(Code::ProgramNotFound, &what).hint("correct the link");
    }
    match interpreter(path) {
        Some(interpreter) if interpreter.ends_with('\r') => {
            cannot(format!("the first line of {shown} ends in a carriage return"))
                .hint("the file has the line ends of another system: convert it, as with dos2unix")
        }
        Some(interpreter) => {
            cannot(format!("the interpreter {} of {shown} does not exist", quoted(&interpreter)))
                .hint("install it, or correct the first line of the file")
        }
        None => cannot(format!("the dynamic loader that {shown} needs does not exist"))
            .hint("it was built for another system or C library; 'file' shows which"),
    }
}

fn not_permitted(spec: &Spec, path: &str) -> Error {
    let cannot = |what: String| error(Code::CannotExecute, what);
    let shown = quoted(path);
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() => {
            cannot(format!("{shown} is a directory")).hint("give the program's file in it")
        }
        Ok(meta) if !meta.is_file() => {
            cannot(format!("{shown} is not a regular file")).hint("check the path")
        }
        Ok(meta) if meta.mode() & 0o111 == 0 => cannot(format!("{shown} is not executable"))
            .hint("make it so: chmod +x, or give it to its interpreter"),
        Ok(_) | Err(_) => {
            let by = interpreter(path).map(|i| format!(", or its interpreter {},", quoted(&i)));
            let what = format!("{shown}{} may not be executed by {}", by.unwrap_or_default(), user(spec));
            cannot(what)
                .hint("check the permissions of the file and of every directory above it, and for 'noexec'")
        }
    }
}

/// The interpreter that a script's first line names.
fn interpreter(path: &str) -> Option<String> {
    let head = head(path)?;
    let line = head.strip_prefix(b"#!")?.split(|&b| b == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    // As the kernel: blanks around it, and what follows is an argument.
    let line = line.trim_matches([' ', '\t']);
    Some(line.split([' ', '\t']).next().unwrap_or_default().to_owned())
}

fn begins_with(path: &str, magic: &[u8]) -> bool {
    head(path).is_some_and(|head| head.starts_with(magic))
}

/// As much of the file as the kernel looks at. Not of a pipe or a device: opening one may do something or
/// wait.
fn head(path: &str) -> Option<Vec<u8>> {
    if !fs::metadata(Path::new(path)).ok()?.is_file() {
        return None;
    }
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path).ok()?;
    let mut head = Vec::new();
    file.take(256).read_to_end(&mut head).ok()?;
    Some(head)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;
    use crate::wire::strings::Strings;

    /// A directory of one test, gone with it.
    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("provost-failure-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).to_str().unwrap().to_owned()
        }

        fn file(&self, name: &str, mode: u32, content: &[u8]) -> String {
            let path = self.path(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn exec(command: &str, candidates: &[&str], errno: i32) -> Error {
        let mut strings = Strings::default();
        candidates.iter().for_each(|c| strings.push(&[c]).unwrap());
        let candidates = strings;
        let failure = remember(Step::Exec, errno, &Launch { candidates, ..Launch::default() });
        explain(&failure, &Spec::new([command]))
    }

    #[test]
    fn c1_a_program_that_is_not_there() {
        let expect_missing = |e: &Error, program: &str| {
            let message = format!("cannot start: there is no program '{program}'");
            assert_eq!((e.code, &e.message), (Code::ProgramNotFound, &message));
        };
        let e = exec("nope-x", &["/no-a/nope-x", "/no-b/nope-x"], ENOENT);
        expect_missing(&e, "nope-x");
        assert!(e.hint.starts_with("looked in /no-a:/no-b;"), "{}", e.hint);
        let e = exec("nope-x", &["/no-a/nope-x"], ENOENT);
        assert!(e.hint.starts_with("looked in /no-a;"), "{}", e.hint);
        let e = exec("/no-a/nope", &["/no-a/nope"], ENOENT);
        expect_missing(&e, "/no-a/nope");
        let e = exec("./nope", &["/no-a/./nope"], ENOENT);
        assert_eq!(e.hint, "it would be '/no-a/./nope'; a relative path begins at --cwd");
    }

    #[test]
    fn c2_a_file_that_cannot_be_executed() {
        let dir = Dir::new("exec");
        let plain = dir.file("plain", 0o644, b"x");
        let empty = dir.file("empty", 0o755, b"");
        let script = dir.file("script", 0o755, b"#! /no/interp -x\necho");
        let dos = dir.file("dos", 0o755, b"#!/bin/sh\r\necho");
        let elf = dir.file("elf", 0o755, b"\x7fELF\0\0");
        let link = dir.path("link");
        symlink("/no/where", &link).unwrap();
        let whole_dir = dir.path("");
        let cases = [
            (&plain, EACCES, format!("'{plain}' is not executable")),
            (&whole_dir, EACCES, format!("'{whole_dir}' is a directory")),
            (&empty, ENOEXEC, format!("'{empty}' is not a program and has no #! line")),
            (&elf, ENOEXEC, format!("'{elf}' is a program for another kind of machine")),
            (&elf, ENOENT, format!("the dynamic loader that '{elf}' needs does not exist")),
            (&script, ENOENT, format!("the interpreter '/no/interp' of '{script}' does not exist")),
            (&dos, ENOENT, format!("the first line of '{dos}' ends in a carriage return")),
            (&empty, E2BIG, format!("arguments and environment of '{empty}' are too large for the kernel")),
            (&empty, ETXTBSY, format!("'{empty}' is open for writing")),
            (&empty, 5, format!("'{empty}' cannot be executed: input/output error (errno 5)")),
        ];
        for (path, errno, what) in cases {
            let e = exec(path, &[path], errno);
            assert_eq!((e.code, e.message), (Code::CannotExecute, format!("cannot start: {what}")));
        }
        let e = exec(&script, &[&script], EACCES);
        assert!(e.message.contains("or its interpreter '/no/interp', may not be executed by"), "{e}");
        let e = exec(&link, &[&link], ENOENT);
        assert_eq!(e.code, Code::ProgramNotFound);
        assert!(e.message.ends_with("is a symbolic link to '/no/where', which does not exist"), "{e}");
        // Found by name: the file that is there is the one to talk about.
        let e = exec("plain", &["/no-a/plain", &plain], EACCES);
        assert_eq!(e.message, format!("cannot start: '{plain}' is not executable"));
    }

    #[test]
    fn c2_each_step_has_its_own_words() {
        let launch = Launch {
            cwd: "/no/dir".into(),
            uid: Some(33),
            gid: Some(44),
            groups: Some(vec![4, 5]),
            nice: Some(-5),
            oom_score_adj: Some(-1000),
            rlimits: vec![(limits::rlimit_number("nofile").unwrap(), 5, u64::MAX)],
            ..Launch::default()
        };
        let mut spec = Spec::new(["x"]);
        spec.user = Some("www".into());
        let nofile = "limits 'nofile=5:unlimited' cannot be set: operation not permitted (errno 1)";
        for (step, errno, code, message) in [
            (Step::Fork, EAGAIN, Code::Refused, "the limit of processes is reached"),
            (Step::Fork, ENOMEM, Code::Failed, "the system is out of memory"),
            (Step::Pipe, EMFILE, Code::Refused, "the service is out of file descriptors"),
            (Step::Chdir, ENOENT, Code::Failed, "the working directory '/no/dir' does not exist"),
            (Step::Chdir, ENOTDIR, Code::Failed, "the working directory '/no/dir' is not a directory"),
            (Step::SetUid, EPERM, Code::Refused, "the service may not become user 'www'"),
            (Step::SetUid, EAGAIN, Code::Refused, "user 'www' has reached its limit of processes"),
            (Step::SetGid, EPERM, Code::Refused, "the service may not become user 'www'"),
            (Step::Groups, EPERM, Code::Refused, "the service may not become user 'www'"),
            (Step::Nice, EACCES, Code::Refused, "the service may not set nice to -5"),
            (Step::Limits, EPERM, Code::Refused, nofile),
            (
                Step::SetUid,
                EINVAL,
                Code::Failed,
                "'x' failed at the step setuid '33': invalid argument (errno 22)",
            ),
            (
                Step::Session,
                EPERM,
                Code::Failed,
                "'x' failed at the step setsid: operation not permitted (errno 1)",
            ),
        ] {
            let e = explain(&remember(step, errno, &launch), &spec);
            assert_eq!((e.code, e.message), (code, format!("cannot start: {message}")));
        }
        spec.group = Some("staff".into());
        let e = explain(&remember(Step::Groups, EPERM, &launch), &spec);
        assert_eq!(e.message, "cannot start: the service may not change to group 'staff'");
        spec.groups = vec!["4".into(), "5".into()];
        let e = explain(&remember(Step::Groups, EPERM, &launch), &spec);
        assert_eq!(e.message, "cannot start: the service may not change to the groups 4,5");
    }

    #[test]
    fn an_object_fits_the_record() {
        let launch = Launch { cwd: "é".repeat(2000), ..Launch::default() };
        assert_eq!(remember(Step::Chdir, ENOENT, &launch).object.len(), OBJECT_LEN_MAX);
        let e = explain(
            &StartFailure { step: "later".into(), errno: 9999, object: String::new() },
            &Spec::new(["x"]),
        );
        assert!(e.message.starts_with("cannot start: 'x' failed at the step later: "), "{e}");
    }
}
