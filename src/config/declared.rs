//! The files that declare processes: the configuration, and `conf.d/*.toml` beside it; or all `*.toml` of a
//! directory. What is wrong in one of them is wrong with all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::file::{text, top};
use crate::config::needs;
use crate::config::places::Places;
use crate::config::processes::{self, Declaration};
use crate::config::section::{Section, Source};
use crate::wire::error::Error;
use crate::wire::id::{Name, quoted};
use crate::wire::spec::Spec;
use crate::wire::time::Timestamp;

/// What is beside the configuration.
const DIR: &str = "conf.d";
/// The most files of a directory.
const FILES_MAX: usize = 1000;

/// What else stands in the configuration: it is for the service, and may name secrets that we may not read.
pub(super) const OTHERS: [&str; 11] = [
    "orphans",
    "service",
    "history",
    "local",
    "sink",
    "grpc",
    "remote",
    "providers",
    "modules",
    "registry",
    "environment",
];

/// The sections `[defaults]` and `[process]` of one file.
pub type Sections<'a> = (Option<Section<'a>>, Option<Section<'a>>);

/// What a configuration declares, file by file in the order of their names, in each in its own order. Only
/// the configuration itself, in a directory `provost.toml`, has `[defaults]`: they hold for all.
pub fn processes(path: &Path) -> Result<Vec<Declaration>, Error> {
    let mut all = All::default();
    if path.is_dir() {
        let main = path.join("provost.toml");
        if main.exists() {
            all.add(main.clone(), Kind::Configuration)?;
        }
        all.add_others(in_dir(path)?.into_iter().filter(|file| *file != main))?;
    } else {
        all.add(path.to_owned(), Kind::Configuration)?;
        all.add_others(in_dir(&beside(path))?)?;
    }
    let places = Places { files: all.files().collect(), sections: &all.seen };
    check_zones(&all.declarations, &places)?;
    check_logs(&all.declarations, &places)?;
    needs::settle(&all.declarations, &places)
}

/// The files of a configuration: itself, or `provost.toml` in its directory, then those beside it.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    if path.is_dir() {
        let main = path.join("provost.toml");
        let others = in_dir(path)?.into_iter().filter(|file| *file != main);
        return Ok(main.exists().then(|| main.clone()).into_iter().chain(others).collect());
    }
    Ok([vec![path.to_owned()], in_dir(&beside(path))?].concat())
}

/// The same for the configuration of a service, of which these are the sections; and what was read of the
/// files beside it.
pub fn with_beside(path: &Path, sections: Sections<'_>) -> Result<(Vec<Declaration>, Vec<Read>), Error> {
    let mut all = All::default();
    all.take(sections)?;
    all.add_others(in_dir(&beside(path))?)?;
    let files = [path].into_iter().chain(all.files()).collect();
    let places = Places { files, sections: &all.seen };
    Ok((needs::settle(&all.declarations, &places)?, all.read))
}

/// A file, and what was in it.
pub type Read = (PathBuf, String);

fn beside(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(DIR)
}

/// What may stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Everything; what is not about processes is not looked at here.
    Configuration,
    Processes,
}

struct All {
    defaults: Spec,
    /// Where each name is declared.
    seen: BTreeMap<Name, String>,
    declarations: Vec<Declaration>,
    read: Vec<Read>,
}

impl Default for All {
    fn default() -> Self {
        let defaults = Spec::new([""; 0]);
        Self { defaults, seen: BTreeMap::new(), declarations: Vec::new(), read: Vec::new() }
    }
}

impl All {
    fn add_others(&mut self, files: impl IntoIterator<Item = PathBuf>) -> Result<(), Error> {
        files.into_iter().try_for_each(|file| self.add(file, Kind::Processes))
    }

    fn add(&mut self, path: PathBuf, kind: Kind) -> Result<(), Error> {
        let text = text(&path)?;
        let source = Source { path: &path, text: &text };
        let mut file = top(&source)?;
        let defaults = if kind == Kind::Configuration { file.section("defaults")? } else { None };
        let processes = file.section("process")?;
        if kind == Kind::Configuration {
            OTHERS.iter().for_each(|key| drop(file.value(key)));
        }
        file.finish()?;
        self.take((defaults, processes))?;
        self.read.push((path, text));
        Ok(())
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        self.read.iter().map(|(path, _)| path.as_path())
    }

    fn take(&mut self, (defaults, processes): Sections<'_>) -> Result<(), Error> {
        if let Some(section) = defaults {
            self.defaults = processes::defaults(section)?;
        }
        match processes {
            Some(section) => {
                processes::declared(section, &self.defaults, &mut self.seen, &mut self.declarations)
            }
            None => Ok(()),
        }
    }
}

/// Refuses a time zone that this machine has no data for. No reason for a service not to begin: its other
/// processes need none.
fn check_zones(all: &[Declaration], places: &Places<'_>) -> Result<(), Error> {
    for declaration in all {
        declaration.spec.schedule.times(Timestamp::now()).map_err(|e| {
            let name = declaration.spec.name.as_ref().map_or("", Name::as_str);
            let what = format!("[process.{name}]: {}", e.message);
            places.error(declaration, &["schedule_zone", "schedule"], &what).hint(e.hint)
        })?;
    }
    Ok(())
}

/// Refuses two that would write one log. As with zones, a service begins with them all the same.
fn check_logs(all: &[Declaration], places: &Places<'_>) -> Result<(), Error> {
    let mut logs: BTreeMap<PathBuf, Name> = BTreeMap::new();
    let named = |d: &Declaration| d.names().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    for (declaration, name) in all.iter().flat_map(|d| named(d).into_iter().map(move |n| (d, n))) {
        for path in declaration.spec.log.paths_of(name.as_str()).into_iter().flatten() {
            let path: PathBuf = Path::new(&path).components().collect();
            if let Some(other) = logs.get(&path).filter(|other| **other != name) {
                let path = quoted(&path.to_string_lossy());
                let what = format!("the log {path} of {name} is that of {other}");
                let e = places.error(declaration, &["log", "log_stdout", "log_stderr"], &what);
                return Err(e.hint("give each a file of its own, as with {name} in the path"));
            }
            logs.insert(path, name.clone());
        }
    }
    Ok(())
}

/// The `*.toml` of a directory by name; none if it is not there.
fn in_dir(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |e: std::io::Error| {
        Error::usage(format!("cannot read the directory {}: {e}", quoted(&dir.to_string_lossy())))
    };
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // An editor's own files begin with a dot.
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !is_hidden && path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    if files.len() > FILES_MAX {
        return Err(Error::usage(format!(
            "{} has {} files, at most {FILES_MAX} are read",
            quoted(&dir.to_string_lossy()),
            files.len()
        )));
    }
    files.sort();
    Ok(files)
}
