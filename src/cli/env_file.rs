//! Files of variables, as people write them for shells and for `docker --env-file`: `export` in front, blanks
//! around the '=', quotes, comments. What is none of these is an error that names the line.

use std::fs;
use std::path::Path;

use crate::cli::text;
use crate::cli::values;
use crate::wire::error::{Code, Error};
use crate::wire::id::quoted;

/// Reads a file of variables, one per line.
pub fn read(path: &str) -> Result<Vec<(String, String)>, Error> {
    let text = fs::read_to_string(Path::new(path)).map_err(|e| {
        Error::new(Code::Usage, format!("cannot read env file {}: {}", quoted(path), text::cause(&e)))
            .hint("check --env-file")
    })?;
    parse(&text).map_err(|(line, why)| {
        Error::usage(format!("env file {}, line {line}: {why}", quoted(path))).hint(
            "write one K=V per line; a value may stand in quotes, and lines that begin with '#' are skipped",
        )
    })
}

/// The number of the line, and what is wrong with it.
type Wrong = (usize, String);

fn parse(text: &str) -> Result<Vec<(String, String)>, Wrong> {
    let mut pairs = Vec::new();
    for (n, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        pairs.push(variable(line).map_err(|why| (n + 1, why))?);
    }
    Ok(pairs)
}

fn variable(line: &str) -> Result<(String, String), String> {
    let line = line.strip_prefix("export").filter(|l| l.starts_with([' ', '\t'])).unwrap_or(line);
    let not_one = || format!("{} is not K=V", quoted(line.trim()));
    let (key, value) = line.split_once('=').ok_or_else(not_one)?;
    let (key, value) = (key.trim(), unquoted(value.trim())?);
    if key.contains(char::is_whitespace) {
        return Err(not_one());
    }
    values::pair("", &format!("{key}={value}")).map_err(|_| not_one())
}

/// In single quotes a value is literal; in double quotes `\n`, `\t`, `\"`, `\\` and `\$` mean what they mean
/// to a shell; without, it goes up to a '#' that follows a blank.
fn unquoted(value: &str) -> Result<String, String> {
    let (text, rest) = match value.chars().next() {
        Some('\'') => {
            let (text, rest) = value[1..].split_once('\'').ok_or("a quote has no end")?;
            (text.to_owned(), rest)
        }
        Some('"') => in_double_quotes(&value[1..])?,
        Some(_) | None => {
            let comment = value.find(" #").into_iter().chain(value.find("\t#")).min();
            return Ok(value[..comment.unwrap_or(value.len())].trim_end().to_owned());
        }
    };
    let rest = rest.trim();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(text)
    } else {
        Err(format!("{} follows the quoted value", quoted(rest)))
    }
}

fn in_double_quotes(text: &str) -> Result<(String, &str), String> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, c @ ('"' | '\\' | '$'))) => out.push(c),
                Some((_, c)) => out.extend(['\\', c]),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("a quote has no end".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match parse(text) {
            Ok(pairs) => pairs.iter().map(|(k, v)| format!("{k}=<{v}>")).collect::<Vec<_>>().join(" "),
            Err((line, why)) => format!("{line}: {why}"),
        }
    }

    #[test]
    fn files_are_read_as_people_write_them() {
        assert_eq!(
            read("\u{feff}A=1\r\n\n# no\n  export C=3\nexport\tE = 5\nD = x\n"),
            "A=<1> C=<3> E=<5> D=<x>"
        );
        assert_eq!(read("A=a b  # no\nB=a#b\nC=\nexport=1"), "A=<a b> B=<a#b> C=<> export=<1>");
        assert_eq!(read(r#"A="a # b" # no"#), "A=<a # b>");
        assert_eq!(read(r#"A="x\ty\"\\\$\q""#), "A=<x\ty\"\\$\\q>");
        assert_eq!(read(r"A='a \n $b'"), r"A=<a \n $b>");
        assert_eq!(read("URL=postgres://u:p@h/d?x=1&y=2"), "URL=<postgres://u:p@h/d?x=1&y=2>");
    }

    #[test]
    fn what_cannot_be_meant_is_an_error_with_its_line() {
        assert!(read("A=1\nB").starts_with("2: "), "{}", read("A=1\nB"));
        assert!(read("a b=1").contains("is not K=V"));
        assert!(read("=1").contains("is not K=V"));
        assert_eq!(read("A='x"), "1: a quote has no end");
        assert_eq!(read("\nA=\"x\\"), "2: a quote has no end");
        assert!(read("A='x'y").contains("follows the quoted value"));
    }
}
