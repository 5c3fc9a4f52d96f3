//! The manual page of the configuration file, provost.toml(5): `docs/config.md` in the language of man(7), so
//! that there is one text.

use crate::cli::manual::roff;

const TEXT: &str = include_str!("../../docs/config.md");

/// The page.
pub fn page() -> String {
    let mut out = format!(
        ".\\\" Made by 'provost help --man=config' of docs/config.md.\n\
         .TH PROVOST.TOML 5 \"\" \"provost {}\" \"File Formats\"\n\
         .SH NAME\nprovost.toml \\- settings and processes of provost\n.SH DESCRIPTION\n",
        env!("CARGO_PKG_VERSION")
    );
    let mut is_code = false;
    let mut is_table = false;
    for line in TEXT.lines().skip(1) {
        if line.starts_with("```") {
            is_code = !is_code;
            out.push_str(if is_code { ".PP\n.RS 4\n.nf\n" } else { ".fi\n.RE\n" });
        } else if is_code {
            out.push_str(&roff(line));
            out.push('\n');
        } else if let Some(row) = line.strip_prefix('|') {
            table_row(row, &mut is_table, &mut out);
            continue;
        } else if let Some(title) = line.strip_prefix("### ") {
            out.push_str(&format!(".SS {}\n", plain(title)));
        } else if let Some(title) = line.strip_prefix("## ") {
            out.push_str(&format!(".SH {}\n", section(title)));
        } else if line.is_empty() {
            out.push_str(".PP\n");
        } else if let Some(point) = line.strip_prefix("* ") {
            out.push_str(&format!(".IP \\(bu 2\n{}\n", styled(point)));
        } else {
            out.push_str(&styled(line));
            out.push('\n');
        }
        is_table = false;
    }
    out.push_str(".SH SEE ALSO\n.BR provost (1)\n");
    out
}

/// `| key | what it is | ... |`: a term and what belongs to it. The first row and its line are no such term.
fn table_row(row: &str, is_table: &mut bool, out: &mut String) {
    let was_table = std::mem::replace(is_table, true);
    let cells: Vec<&str> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
    if !was_table || row.starts_with("---") {
        return;
    }
    let Some((key, rest)) = cells.split_first() else { return };
    out.push_str(&format!(".TP\n{}\n{}\n", styled(key), styled(&rest.join("; "))));
}

/// The title of a section: of the file it keeps its case.
fn section(title: &str) -> String {
    if title.starts_with('`') { plain(title) } else { plain(title).to_uppercase() }
}

/// Without marks.
fn plain(text: &str) -> String {
    roff(&unlinked(text).replace('`', ""))
}

/// What stands between backquotes is bold.
fn styled(text: &str) -> String {
    let text = unlinked(text).replace("\\|", "|").replace("**", "");
    let parts = text
        .split('`')
        .enumerate()
        .map(|(n, part)| if n % 2 == 1 { format!("\\fB{}\\fR", escaped(part)) } else { escaped(part) });
    let line: String = parts.collect();
    if line.starts_with(['.', '\'']) { format!("\\&{line}") } else { line }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

/// `[text](address)` is its text.
fn unlinked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("](") {
        let begin = before.rfind('[').unwrap_or(before.len());
        out.push_str(&before[..begin]);
        out.push_str(before.get(begin + 1..).unwrap_or_default());
        rest = behind.split_once(')').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_those_of_man() {
        assert_eq!(styled("see [the *list*](x.md): `a-b` or c"), "see the *list*: \\fBa\\-b\\fR or c");
        assert_eq!(styled("`.x`"), "\\fB.x\\fR");
        let (mut is_table, mut out) = (false, String::new());
        for row in [" key | type |", "---|---|", " `a` | text |"] {
            table_row(row, &mut is_table, &mut out);
        }
        assert_eq!(out, ".TP\n\\fBa\\fR\ntext\n");
    }

    #[test]
    fn every_key_of_the_reference_is_on_the_page() {
        let page = page();
        for line in TEXT.lines().filter(|line| line.starts_with("| `")) {
            let key = line.split('`').nth(1).unwrap();
            assert!(page.contains(&escaped(key)), "{key}");
        }
    }
}
