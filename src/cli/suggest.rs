//! What a person may have meant by a target that names nothing.

use crate::cli::applied;
use crate::cli::arguments::Arguments;
use crate::cli::declared::Declared;
use crate::cli::plan::Wanted;
use crate::cli::session::Session;
use crate::cli::state;
use crate::cli::text;
use crate::cli::values;
use crate::wire::error::{Code, Error};
use crate::wire::id::{no_such_target, quoted};
use crate::wire::reply::Item;
use crate::wire::request::List;

/// How many names a hint has at most.
const NAMES_MAX: usize = 3;

/// The error with a better hint, if it is of a target that names nothing and there is one that is meant.
pub fn better(session: &Session, e: Error) -> Error {
    // Who may not list has no names to be told.
    let names = || session.client().and_then(|mut client| client.list(List::default())).ok();
    let Some(target) = target_of(&e) else { return e };
    let names: Vec<String> =
        names().into_iter().flatten().filter_map(|p| Some(p.name?.as_str().to_owned())).collect();
    match hint(&target, &names).or_else(|| declared(session, &target)) {
        Some(hint) => e.hint(hint),
        None => e,
    }
}

/// What is declared and not there, or may be.
fn declared(session: &Session, target: &str) -> Option<String> {
    if session.remote.is_given() {
        return None;
    }
    let path = state::of_service(&session.socket().ok()?).config?;
    let (shown, words) = (text::path(&path), ["provost", "apply"].map(str::to_owned));
    let apply = text::quoted_command(&[&words[..], &[path.to_string_lossy().into_owned()]].concat());
    let not_applied = applied::not_applied(session, &mut session.client().ok()?);
    let is_meant = |wanted: &Wanted| wanted.spec.name.as_ref().is_some_and(|name| name.as_str() == target);
    match (Declared::read(&path), not_applied) {
        (Ok(all), _) if !all.processes.iter().any(is_meant) => None,
        (Ok(_), Some(how)) => {
            Some(format!("it is declared in {shown}, and could not be made: '{how}' tells why"))
        }
        (Ok(_), None) => Some(format!("it is declared in {shown}, and not there: {apply}")),
        (Err(_), how) => {
            let how = how.unwrap_or(apply);
            Some(format!("the configuration cannot be applied as it is: '{how}' tells why"))
        }
    }
}

/// The same for those of an answer.
pub fn better_items(session: &Session, items: &[Item]) -> Vec<Item> {
    let mut items = items.to_vec();
    for item in &mut items {
        item.error = item.error.take().map(|e| better(session, e));
    }
    items
}

/// The target of the refusal that `wire` makes of one that names nothing.
fn target_of(e: &Error) -> Option<String> {
    let (_, quoted) = e.message.split_once('\'')?;
    let target = quoted.strip_suffix('\'')?;
    (e.code == Code::NotFound && e.message == no_such_target(target).message).then(|| target.to_owned())
}

fn hint(target: &str, names: &[String]) -> Option<String> {
    let of = |base: &str| names.iter().any(|name| name.starts_with(&format!("{base}-")));
    // As people call several of them.
    let one = target.strip_suffix('s').filter(|one| !one.is_empty() && of(one) && !of(target));
    let prefix = format!("{}-", one.unwrap_or(target));
    let mut instances: Vec<&str> =
        names.iter().map(String::as_str).filter(|n| n.starts_with(&prefix)).collect();
    instances.sort_by_key(|name| (name.len(), *name));
    match instances[..] {
        [] => {}
        [one] => return Some(format!("did you mean {one}? 'provost list' shows what there is")),
        [first, .., last] => {
            return Some(format!("there are {first} to {last}: {}", quoted(&format!("{prefix}*"))));
        }
    }
    let same = names.iter().find(|name| name.eq_ignore_ascii_case(target)).cloned();
    let near = same.or_else(|| values::closest(target, names.iter().cloned()));
    let mut near: Vec<String> = near.into_iter().map(|name| name.to_string()).collect();
    let within = names.iter().filter(|n| target.len() >= 3 && n.contains(target) && !near.contains(n));
    let within: Vec<String> = within.take(NAMES_MAX).cloned().collect();
    near.extend(within);
    near.truncate(NAMES_MAX);
    (!near.is_empty())
        .then(|| format!("did you mean {}? 'provost list' shows what there is", near.join(" or ")))
}

/// The refusal of an option that is unknown: behind a word it is one of the program, and `--` is missing.
pub fn dashes(arguments: &Arguments, option: &str) -> Error {
    let e = arguments.unknown(option);
    match arguments.first_value() {
        Some(program) => e.hint(with_dashes(arguments, "start", program)),
        None => e,
    }
}

/// The command with `--` in front of its program.
pub fn with_dashes(arguments: &Arguments, command: &str, program: &str) -> String {
    let (options, program) = arguments.split_at(program);
    let words = [&["provost".to_owned(), command.to_owned()], options, &["--".to_owned()], program].concat();
    format!("a program with its arguments stands behind --: {}", text::quoted_command(&words))
}

/// The error of a start: what is not there as a program may be a line for a shell.
pub fn shell(e: Error, command: &str, words: &[String]) -> Error {
    let for_shell = |c: char| c.is_whitespace() || "|&;<>$()`*?".contains(c);
    let is_line = e.code == Code::ProgramNotFound && words[0].contains(for_shell);
    if !is_line {
        return e;
    }
    let line = text::quoted_command(words);
    e.hint(format!("a line for a shell is given with --shell: provost {command} --shell -- {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint_of(target: &str, names: &[&str]) -> String {
        let names: Vec<String> = names.iter().map(|&n| n.to_owned()).collect();
        hint(target, &names).unwrap_or_default()
    }

    #[test]
    fn the_nearest_name_and_instances_are_told() {
        assert!(hint_of("bakcend", &["backend", "db"]).starts_with("did you mean backend?"));
        assert!(hint_of("web", &["web-1", "db"]).starts_with("did you mean web-1?"));
        assert_eq!(hint_of("web", &["web-2", "web-10", "web-1"]), "there are web-1 to web-10: 'web-*'");
        assert!(hint_of("DB", &["web", "db"]).starts_with("did you mean db?"));
        assert!(hint_of("api", &["backend-api", "db"]).contains("backend-api"));
        assert_eq!(hint_of("zzz", &["web", "db"]), "");
    }

    #[test]
    fn the_target_is_found_in_the_refusal() {
        assert_eq!(target_of(&no_such_target("web")).as_deref(), Some("web"));
        assert_eq!(target_of(&Error::new(Code::NotFound, "there is no 'x'")), None);
    }
}
