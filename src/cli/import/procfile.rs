//! Procfiles: a name and a command for a shell on each line.

use crate::cli::import::imported::{Imported, Imports};
use crate::wire::error::Error;

/// The port of the first process, and between those of two: as foreman has it.
const PORT: u32 = 5000;
const PORT_STEP: u32 = 100;

pub fn import(text: &str) -> Result<Imported, Error> {
    let mut imported = Imported::default();
    imported.notes.push(
        "Each command is run by a shell, as foreman does. Variables of a .env file are not read:".into(),
    );
    imported.notes.push(
        "add them to [defaults.env]. Foreman ends all when one of them ends; here the others go on.".into(),
    );
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, command)) = line.split_once(':') else {
            return Err(Error::usage(format!("line {} of the Procfile has no name and no colon", n + 1)));
        };
        let mut process = Imports { name: name.trim().to_owned(), ..Imports::default() };
        let command = command.trim();
        process.set("command", vec!["/bin/sh", "-c", command]);
        if command.contains("$PORT") || command.contains("${PORT") {
            let port = PORT + PORT_STEP * u32::try_from(imported.processes.len()).unwrap_or(0);
            process.set_env([("PORT".to_owned(), port.to_string().into())].into_iter().collect());
        }
        imported.processes.push(process);
    }
    imported.name();
    Ok(imported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn each_line_is_a_process() {
        let text = "# all of it\nweb: bundle exec rails s -p $PORT\n\nworker: rake jobs:work\n";
        let toml = import(text).unwrap().to_toml(Path::new("Procfile"));
        assert!(
            toml.contains("[process.web]\ncommand = [\"/bin/sh\", \"-c\", \"bundle exec rails s -p $PORT\"]"),
            "{toml}"
        );
        assert!(toml.contains("[process.web.env]\nPORT = \"5000\"\n"), "{toml}");
        assert!(toml.contains("\"rake jobs:work\"]"), "{toml}");
        assert!(import("web bundle").is_err());
    }
}
