//! The files that declare processes: the configuration, and `conf.d/*.toml` beside it; or all `*.toml` of a
//! directory. What is wrong in one of them is wrong with all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::file::{text, top};
use crate::config::guard;
use crate::config::processes::{self, Declaration};
use crate::config::section::{Section, Source};
use crate::wire::error::Error;
use crate::wire::id::{Name, quoted};
use crate::wire::spec::Spec;

/// What is beside the configuration.
const DIR: &str = "conf.d";
/// The most files of a directory.
const FILES_MAX: usize = 1000;

/// What else stands in the configuration: it is for the service, and may name secrets that we may not read.
pub(super) const OTHERS: [&str; 9] =
    ["orphans", "history", "local", "sink", "grpc", "remote", "providers", "modules", "registry"];

/// The sections `[defaults]` and `[process]` of one file.
pub type Sections<'a> = (Option<Section<'a>>, Option<Section<'a>>);

/// What a configuration declares, file by file in the order of their names, in each in its own order. Only
/// the configuration itself, in a directory `provost.toml`, has `[defaults]`: they hold for all.
pub fn processes(path: &Path) -> Result<Vec<Declaration>, Error> {
    let is_dir = path.is_dir();
    let (main, others) = if is_dir {
        let main = path.join("provost.toml");
        let others = in_dir(path)?.into_iter().filter(|file| *file != main).collect();
        (main.exists().then_some(main), others)
    } else {
        let beside = path.parent().unwrap_or(Path::new("")).join(DIR);
        (Some(path.to_owned()), in_dir(&beside)?)
    };
    let mut all = All::default();
    if let Some(main) = main {
        all.add(&main, Kind::Configuration)?;
    }
    for file in others {
        all.add(&file, Kind::Processes)?;
    }
    Ok(all.declarations)
}

/// What one file declares by itself.
pub fn in_file(sections: Sections<'_>) -> Result<Vec<Declaration>, Error> {
    let mut all = All::default();
    all.take(sections)?;
    Ok(all.declarations)
}

/// Refuses them where others may change them.
pub fn guard(path: &Path) -> Result<(), Error> {
    let beside = path.parent().unwrap_or(Path::new("")).join(DIR);
    let with = "since it says what is executed";
    [path.to_owned()].into_iter().chain(in_dir(&beside)?).try_for_each(|file| guard::guard(&file, with))
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
}

impl Default for All {
    fn default() -> Self {
        Self { defaults: Spec::new([""; 0]), seen: BTreeMap::new(), declarations: Vec::new() }
    }
}

impl All {
    fn add(&mut self, path: &Path, kind: Kind) -> Result<(), Error> {
        let text = text(path)?;
        let source = Source { path, text: &text };
        let mut file = top(&source)?;
        let defaults = if kind == Kind::Configuration { file.section("defaults")? } else { None };
        let processes = file.section("process")?;
        if kind == Kind::Configuration {
            OTHERS.iter().for_each(|key| drop(file.value(key)));
        }
        file.finish()?;
        self.take((defaults, processes))
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
