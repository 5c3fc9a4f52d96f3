//! Which file a provider's binary is, and whether it may be executed: nobody but root and the service's user
//! may be able to change it, or to put another in its place.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::provider::failure::Failure;
use crate::sys::{files, system};
use crate::wire::provider::Definition;

/// Others may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// In a directory with this bit, only the owner of a file may replace it.
const STICKY: u32 = 0o1000;
/// Anybody may execute.
const EXECUTABLE: u32 = 0o111;

/// Finds the binary of a definition and checks it.
pub fn find(definition: &Definition, directories: &[PathBuf]) -> Result<PathBuf, Failure> {
    let given = Path::new(&definition.binary);
    let listed = || {
        let directories: Vec<_> = directories.iter().map(|dir| dir.to_string_lossy()).collect();
        directories.join(", ")
    };
    let not_found = || Failure::BinaryNotFound { path: definition.binary.clone(), directories: listed() };
    let candidate = if definition.binary.contains('/') {
        given.to_owned()
    } else {
        directories.iter().map(|dir| dir.join(given)).find(|path| path.exists()).ok_or_else(not_found)?
    };
    if !candidate.is_absolute() {
        return Err(Failure::InvalidPath {
            message: format!("the binary {} is not absolute", definition.binary),
        });
    }
    // Where links lead is what counts.
    let path = fs::canonicalize(&candidate).map_err(|_| not_found())?;
    let shown = path.to_string_lossy().into_owned();
    let metadata = fs::metadata(&path).map_err(|_| not_found())?;
    if !metadata.is_file() {
        return Err(Failure::NotExecutable { path: shown, why: "it is not a file".into() });
    }
    let is_inside =
        directories.iter().filter_map(|dir| fs::canonicalize(dir).ok()).any(|dir| path.starts_with(dir));
    if !is_inside && !definition.allow_external {
        return Err(Failure::OutsideDirectories { path: shown, directories: listed() });
    }
    if metadata.mode() & EXECUTABLE == 0 {
        return Err(Failure::NotExecutable { path: shown, why: "it has no executable bit".into() });
    }
    check_owners(&path).map_err(|why| Failure::NotPermitted { path: shown.clone(), why })?;
    // Who cannot read it cannot execute it as a script either.
    if let Some(interpreter) = File::open(&path).and_then(|file| files::interpreter(&file)).ok().flatten() {
        let path = interpreter.to_string_lossy().into_owned();
        let real = fs::canonicalize(&interpreter).map_err(|e| Failure::NotExecutable {
            path: shown,
            why: format!("its interpreter {path} cannot be found: {e}"),
        })?;
        check_owners(&real).map_err(|why| Failure::NotPermitted { path, why })?;
    }
    Ok(path)
}

/// The same, and whether it is the pinned one. That decides nothing when it is executed: whoever does that
/// compares what is executed.
pub fn check(definition: &Definition, directories: &[PathBuf]) -> Result<(), Failure> {
    let path = find(definition, directories)?;
    let Some(wanted) = &definition.sha256 else { return Ok(()) };
    let found =
        File::open(&path).and_then(|file| files::sha256(&file)).map_err(|e| Failure::NotPermitted {
            path: path.to_string_lossy().into_owned(),
            why: format!("it cannot be read: {e}"),
        })?;
    if found != *wanted {
        return Err(Failure::PinMismatch { what: "SHA-256", wanted: wanted.clone(), found });
    }
    Ok(())
}

/// The file, and each directory above it. A directory where anybody may write passes with the sticky bit, if
/// what is in it is root's or ours.
fn check_owners(path: &Path) -> Result<(), String> {
    let ours = system::euid();
    for part in path.ancestors() {
        let at = part.display();
        let metadata = fs::symlink_metadata(part).map_err(|e| format!("{at} cannot be looked at: {e}"))?;
        if metadata.uid() != 0 && metadata.uid() != ours {
            return Err(format!("{at} belongs to user {}", metadata.uid()));
        }
        let is_sticky = metadata.is_dir() && metadata.uid() == 0 && metadata.mode() & STICKY != 0;
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 && !is_sticky {
            return Err(format!("others may write to {at} (mode {:o})", metadata.mode() & 0o7777));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("provost-binary-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            let dir = Self(fs::canonicalize(path).unwrap());
            dir.mode("", 0o700);
            dir
        }

        fn file(&self, name: &str, mode: u32) -> String {
            fs::write(self.0.join(name), "#!/bin/sh\n").unwrap();
            self.mode(name, mode);
            self.0.join(name).to_string_lossy().into_owned()
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.0.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn definition(binary: &str) -> Definition {
        Definition { binary: binary.to_owned(), ..Definition::default() }
    }

    fn reason(binary: &str, directories: &[PathBuf]) -> Result<PathBuf, &'static str> {
        find(&definition(binary), directories).map_err(|failure| failure.reason())
    }

    #[test]
    fn a_binary_is_found_by_name_and_by_path_in_its_directories_alone() {
        let (dir, other) = (Dir::new("inside"), Dir::new("outside"));
        let inside = dir.file("files", 0o755);
        let outside = other.file("files", 0o755);
        let directories = [dir.0.clone()];
        assert_eq!(reason("files", &directories), Ok(inside.clone().into()));
        assert_eq!(reason(&inside, &directories), Ok(inside.into()));
        assert_eq!(reason(&outside, &directories), Err("outside_directories"));
        assert_eq!(reason("nothing", &directories), Err("binary_not_found"));
        assert_eq!(reason("/no/such/file", &directories), Err("binary_not_found"));
        assert_eq!(reason("./files", &directories), Err("invalid_path"));
        // A way out by a link or by dots is no way in.
        symlink(&outside, dir.0.join("link")).unwrap();
        assert_eq!(reason("link", &directories), Err("outside_directories"));
        let dots = format!("{}/../{}/files", dir.0.display(), other.0.file_name().unwrap().to_string_lossy());
        assert_eq!(reason(&dots, &directories), Err("outside_directories"));
        let allowed = Definition { allow_external: true, ..definition(&outside) };
        assert_eq!(find(&allowed, &directories), Ok(outside.into()));
    }

    #[test]
    fn what_others_can_change_is_not_executed() {
        let dir = Dir::new("modes");
        let directories = [dir.0.clone()];
        let path = dir.file("files", 0o757);
        assert_eq!(reason(&path, &directories), Err("not_permitted"));
        dir.mode("files", 0o644);
        assert_eq!(reason(&path, &directories), Err("not_executable"));
        dir.mode("files", 0o755);
        assert!(reason(&path, &directories).is_ok());
        dir.mode("", 0o777);
        assert_eq!(reason(&path, &directories), Err("not_permitted"));
        dir.mode("", 0o1777);
        // The directory is as /tmp then, if it is root's.
        assert_eq!(reason(&path, &directories).is_ok(), system::euid() == 0);
        assert_eq!(reason(&dir.0.to_string_lossy(), &directories), Err("not_executable"));
    }

    #[test]
    fn what_executes_a_script_is_nothing_that_others_can_change() {
        let dir = Dir::new("interpreters");
        let (script, shell) = (dir.file("files", 0o755), dir.file("sh", 0o755));
        let of = |line: &str| {
            fs::write(&script, line).unwrap();
            reason(&script, std::slice::from_ref(&dir.0)).err()
        };
        assert_eq!(of(&format!("#!{shell}\n")), None);
        dir.mode("sh", 0o757);
        assert_eq!(of(&format!("#! {shell} -e\n")), Some("not_permitted"));
        assert_eq!(of("#!/no/such/shell\n"), Some("not_executable"));
        assert_eq!(of("\x7fELF"), None);
    }

    #[test]
    fn a_pinned_binary_has_to_be_the_same() {
        let dir = Dir::new("pins");
        let path = dir.file("files", 0o755);
        let with = |sha256: &str| {
            let pinned = Definition { sha256: Some(sha256.to_owned()), ..definition(&path) };
            check(&pinned, std::slice::from_ref(&dir.0)).map_err(|failure| failure.reason())
        };
        assert_eq!(with(&files::sha256(&File::open(&path).unwrap()).unwrap()), Ok(()));
        assert_eq!(with(&"0".repeat(64)), Err("pin_mismatch"));
    }
}
