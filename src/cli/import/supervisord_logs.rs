//! Log files of supervisord's programs: which of them there are, how large they become and how many stay.

use std::path::Path;

use crate::cli::import::imported::Imports;
use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::log::{KEEP_MAX, SIZE_MIN};
use crate::wire::values::size_text;

/// What supervisord does where nothing is said.
const MAXBYTES: u64 = 50 << 20;
const BACKUPS: u32 = 10;

/// The value of a key of the program, with what stands in it replaced.
pub type Get<'a> = &'a dyn Fn(&str) -> Result<Option<String>, Error>;

/// A file that supervisord chooses, removes at its start and names at random is no log to keep: the service
/// has the last output of each process anyway.
pub fn carry_over(get: Get<'_>, here: &Path, process: &mut Imports) -> Result<(), Error> {
    let yes = ["true", "yes", "on", "1", "t"];
    let is_joined =
        get("redirect_stderr")?.is_some_and(|text| yes.contains(&text.to_ascii_lowercase().as_str()));
    let mut rules = Vec::new();
    for stream in ["stdout", "stderr"] {
        let Some(path) = get(&format!("{stream}_logfile"))? else { continue };
        match path.as_str() {
            "AUTO" | "NONE" | "" => continue,
            "syslog" | "/dev/null" => {
                let more = if path == "syslog" { "; see log_to, which is for both streams" } else { "" };
                process.note(format!("not carried over: {stream}_logfile = {path}{more}"));
                continue;
            }
            path if path.starts_with("/dev/") || path.starts_with("/proc/") => {
                process.note(format!("not carried over: {stream}_logfile = {path}; see 'provost stream'"));
                continue;
            }
            _ => {}
        }
        if stream == "stderr" && is_joined {
            continue;
        }
        let absolute = here.join(&path);
        if absolute.as_os_str() != path.as_str() {
            process.note(format!("{stream}_logfile = {path}: taken from the directory of the file"));
        }
        let key = if is_joined { "log".to_owned() } else { format!("log_{stream}") };
        process.set(&key, absolute.to_string_lossy().into_owned());
        rules.push((stream, limits(get, stream)?));
    }
    if process.fields.get("log_stdout").is_some_and(|path| process.fields.get("log_stderr") == Some(path)) {
        process.fields.remove("log_stderr");
        let both = process.fields.remove("log_stdout").unwrap_or_default();
        process.set("log", both);
    }
    let Some((_, (size, keep))) = rules.first().copied() else { return Ok(()) };
    if rules.iter().any(|(_, other)| *other != (size, keep)) {
        process.note("maxbytes and backups are those of stdout_logfile here, for both files");
    }
    match size {
        0 => process.set("log_size", "none"),
        MAXBYTES => {}
        size if size < SIZE_MIN => {
            process.note(format!("stdout_logfile_maxbytes = {size} is less than the least there is here"));
            process.set("log_size", size_text(SIZE_MIN));
        }
        size => process.set("log_size", size_text(size)),
    }
    process.set("log_keep", keep);
    process.note("old files of a log are named by their time here, as NAME.20260101T000000.000Z, not NAME.1");
    Ok(())
}

fn limits(get: Get<'_>, stream: &str) -> Result<(u64, u32), Error> {
    let bad = |key: &str, text: &str| Error::usage(format!("bad value {} of {key}", quoted(text)));
    let (most, old) = (format!("{stream}_logfile_maxbytes"), format!("{stream}_logfile_backups"));
    let size = get(&most)?.map(|text| bytes(&text).ok_or_else(|| bad(&most, &text))).transpose()?;
    let keep = get(&old)?.map(|text| text.trim().parse::<u32>().map_err(|_| bad(&old, &text))).transpose()?;
    Ok((size.unwrap_or(MAXBYTES), keep.unwrap_or(BACKUPS).min(KEEP_MAX)))
}

/// `50MB`, `64KB`, `1GB` or a number of bytes: supervisord's units are powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_uppercase();
    let units = [("KB", 10), ("MB", 20), ("GB", 30)];
    let unit = units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (number, shift) = unit.unwrap_or((&text, 0));
    number.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_supervisord_reads_them() {
        assert_eq!(["1", "2KB", "50mb", "1GB"].map(bytes), [1, 2 << 10, 50 << 20, 1 << 30].map(Some));
        assert_eq!(["", "MB", "-1", "1TB"].map(bytes), [None; 4]);
    }
}
