//! A provider in Rust, with the SDK: gives out what is in the files of a directory.
//!
//! ```console
//! $ cargo build --release --example files-provider
//! $ install target/release/examples/files-provider /usr/local/lib/provost/providers/files
//! $ provost provider start app --binary files --config '{"directory": "/etc/app"}'
//! $ provost provider fetch app database.json port --unwrap
//! 5432
//! ```
//!
//! A path leads through directories to a file, and on through the maps of a JSON file. The text of any other
//! file is its value. Nothing outside of the directory can be read, by whatever link.

use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::RwLock;
use provost::sdk::provider::{Failure, Health, Info, Init, Provider, serve};
use serde_json::{Map, Value};

/// The largest file that is read, in bytes.
const FILE_LEN_MAX: u64 = 1 << 20;

#[derive(Default)]
struct Files(RwLock<Option<Served>>);

struct Served {
    alias: String,
    directory: PathBuf,
}

impl Provider for Files {
    fn init(&self, init: Init) -> Result<(), Failure> {
        let directory = match init.config.get("directory") {
            Some(Value::String(directory)) => Path::new(directory),
            Some(_) => return Err(Failure::Invalid("'directory' is not a text".into())),
            None => return Err(Failure::Invalid("'directory' is missing in the configuration".into())),
        };
        // A relative one is meant from where the configuration was written.
        let folder = Path::new(&init.source_file_path).parent().unwrap_or(Path::new(""));
        let directory = fs::canonicalize(folder.join(directory))
            .map_err(|e| Failure::Invalid(format!("{}: {e}", directory.display())))?;
        *self.0.write() = Some(Served { alias: init.alias, directory });
        Ok(())
    }

    fn fetch(&self, path: &[String]) -> Result<Map<String, Value>, Failure> {
        let served = self.0.read();
        let served =
            served.as_ref().ok_or_else(|| Failure::NotInitialised("there was no Init yet".into()))?;
        if path.is_empty() {
            return Err(Failure::Invalid("the path is empty".into()));
        }
        let not_found = || Failure::NotFound(path.join("/"));
        let (mut at, mut rest) = (served.directory.clone(), path.iter());
        while at.is_dir() {
            let name =
                rest.next().ok_or_else(|| Failure::Invalid(format!("{} is a directory", at.display())))?;
            if name.contains('/') || name == ".." || name.is_empty() {
                return Err(Failure::Invalid(format!("bad segment {name:?}")));
            }
            at = fs::canonicalize(at.join(name)).map_err(|_| not_found())?;
        }
        if !at.starts_with(&served.directory) {
            return Err(Failure::PermissionDenied("it is outside of the directory".into()));
        }
        let mut value = read(&at)?;
        for key in rest {
            value = match value {
                Value::Object(mut map) => map.remove(key).ok_or_else(not_found)?,
                _ => return Err(Failure::Invalid(format!("there is nothing below {key:?}"))),
            };
        }
        Ok(match value {
            Value::Object(map) => map,
            other => Map::from_iter([("value".to_owned(), other)]),
        })
    }

    fn info(&self) -> Info {
        let alias = self.0.read().as_ref().map(|served| served.alias.clone()).unwrap_or_default();
        Info { alias, version: env!("CARGO_PKG_VERSION").to_owned(), kind: "files".to_owned() }
    }

    fn health(&self) -> Health {
        match *self.0.read() {
            Some(_) => Health::Ok("healthy".to_owned()),
            None => Health::Degraded("not initialised".to_owned()),
        }
    }
}

/// JSON where the name says so, text else.
fn read(path: &Path) -> Result<Value, Failure> {
    let shown = path.display();
    let len = fs::metadata(path).map_err(|e| Failure::Unavailable(format!("{shown}: {e}")))?.len();
    if len > FILE_LEN_MAX {
        return Err(Failure::Invalid(format!("{shown} has {len} bytes, {FILE_LEN_MAX} are taken")));
    }
    let bytes = fs::read(path).map_err(|e| Failure::Unavailable(format!("{shown}: {e}")))?;
    if path.extension().is_some_and(|e| e == "json") {
        return serde_json::from_slice(&bytes).map_err(|e| Failure::Internal(format!("{shown}: {e}")));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::Internal(format!("{shown} is not text")))?;
    Ok(Value::String(text.strip_suffix('\n').unwrap_or(&text).to_owned()))
}

fn main() {
    if let Err(e) = serve(Files::default()) {
        eprintln!("files-provider: {}", e.message);
        std::process::exit(1);
    }
}
