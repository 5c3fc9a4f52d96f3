//! A program that has to be a certain file: it is opened, checked and compared here, and the child executes
//! what was compared. So it does not matter what is at the path by then.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::engine::process::failure;
use crate::sys::errno::ENOENT;
use crate::sys::files;
use crate::wire::error::{Code, EXECUTABLE_MISMATCH, EXECUTABLE_NOT_GUARDED, Error};
use crate::wire::id::quoted;
use crate::wire::keeper::Step;
use crate::wire::launch::Launch;
use crate::wire::process::StartFailure;
use crate::wire::spec::Spec;
use crate::wire::strings::Strings;

/// The open file that is to be executed, if the spec says which one it has to be; the launch has it executed.
/// A script cannot be: the kernel gives its interpreter a path. It is executed by that, after the same
/// comparison, and its interpreter is one that others cannot change either.
pub fn checked(spec: &Spec, launch: &mut Launch) -> Result<Option<File>, Error> {
    let Some(wanted) = &spec.executable_sha256 else { return Ok(None) };
    let path = Path::new(&spec.command[0]);
    if fs::metadata(path).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        let failure =
            StartFailure { step: Step::Exec.name().into(), errno: ENOENT, object: spec.command[0].clone() };
        return Err(failure::explain(&failure, spec));
    }
    let file = files::guarded_file(path).map_err(|why| not_guarded(path, &why))?;
    let interpreter = files::interpreter(&file).map_err(|e| not_guarded(path, &e.to_string()))?;
    let found = files::sha256(&file).map_err(|e| not_guarded(path, &e.to_string()))?;
    if found != *wanted {
        let path = quoted(&spec.command[0]);
        let what = format!("cannot start: the SHA-256 of {path} is {found}, not {wanted} as pinned");
        return Err(Error::new(Code::Refused, what)
            .hint("change what is pinned if the new one is meant")
            .reason(EXECUTABLE_MISMATCH));
    }
    let Some(interpreter) = interpreter else {
        (launch.by_descriptor, launch.candidates) = (true, Strings::default());
        return Ok(Some(file));
    };
    let interpreter = Path::new(&interpreter);
    if !interpreter.is_absolute() {
        return Err(not_guarded(path, "its interpreter has no absolute path"));
    }
    files::guarded_file(interpreter).map_err(|why| not_guarded(interpreter, &why))?;
    // Where links lead is what was compared.
    let real = fs::canonicalize(path).map_err(|e| not_guarded(path, &e.to_string()))?;
    let mut candidates = Strings::default();
    candidates.push(&[&real.to_string_lossy()])?;
    launch.candidates = candidates;
    Ok(None)
}

fn not_guarded(path: &Path, why: &str) -> Error {
    let path = quoted(&path.to_string_lossy());
    Error::new(Code::Refused, format!("cannot start: {path} is not safe to execute: {why}"))
        .hint("it and every directory above it has to belong to root or the service, and others must not write there")
        .reason(EXECUTABLE_NOT_GUARDED)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn opened(path: &Path, sha256: &str) -> (Result<Option<File>, Error>, Launch) {
        let mut spec = Spec::new([path.to_str().unwrap()]);
        spec.executable_sha256 = Some(sha256.to_owned());
        let mut launch = Launch::default();
        launch.candidates.push(&["/usr/bin/other"]).unwrap();
        (checked(&spec, &mut launch), launch)
    }

    #[test]
    fn what_is_compared_is_what_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("program"), "abc").unwrap();
        fs::write(at("other"), "other").unwrap();
        symlink(at("program"), at("link")).unwrap();
        for name in ["program", "link"] {
            let (file, launch) = opened(&at(name), OF_ABC);
            let file = file.unwrap().expect("it is no script");
            fs::rename(at("other"), at("program")).unwrap();
            let open = fs::read_to_string(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
            assert_eq!((open.as_str(), launch.by_descriptor, launch.candidates.count()), ("abc", true, 0));
            fs::write(at("other"), "other").unwrap();
            fs::write(at("new"), "abc").unwrap();
            fs::rename(at("new"), at("program")).unwrap();
        }
        let e = opened(&at("other"), OF_ABC).0.unwrap_err();
        assert_eq!((e.code, e.reason.as_str()), (Code::Refused, EXECUTABLE_MISMATCH));
        let found = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";
        assert!(e.message.contains(OF_ABC) && e.message.contains(found), "{}", e.message);
        assert_eq!(opened(&at("none"), OF_ABC).0.unwrap_err().code, Code::ProgramNotFound);
    }

    #[test]
    fn a_script_keeps_its_path_and_its_interpreter_is_checked_too() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| fs::canonicalize(dir.path()).unwrap().join(name);
        let script = |text: &str| {
            fs::write(at("script"), text).unwrap();
            let found = files::sha256(&File::open(at("script")).unwrap()).unwrap();
            opened(&at("link"), &found)
        };
        symlink(at("script"), at("link")).unwrap();
        let (none, launch) = script("#! /bin/sh -e\n");
        assert!(none.unwrap().is_none() && !launch.by_descriptor);
        let candidates: Vec<_> = launch.candidates.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(candidates, [at("script").to_str().unwrap()]);
        fs::write(at("sh"), "x").unwrap();
        fs::set_permissions(at("sh"), fs::Permissions::from_mode(0o757)).unwrap();
        for line in [format!("#!{}\n", at("sh").display()), "#!sh\n".to_owned(), "#!/no/sh".to_owned()] {
            let e = script(&line).0.unwrap_err();
            assert_eq!((e.code, e.reason.as_str()), (Code::Refused, EXECUTABLE_NOT_GUARDED), "{}", e.message);
        }
    }

    #[test]
    fn what_others_can_change_is_not_opened() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        fs::write(&program, "abc").unwrap();
        for (path, mode) in [(program.as_path(), 0o722), (dir.path(), 0o777)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(opened(&program, OF_ABC).0.unwrap_err().reason, EXECUTABLE_NOT_GUARDED);
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        }
        assert!(opened(&program, OF_ABC).0.is_ok());
    }
}
