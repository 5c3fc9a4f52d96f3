//! What differs between two declarations of one module, and which of it callers would notice: what they give
//! has to fit as before, and what they are given has to be what they know. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::module::plane::connection::Module;
use crate::sdk::module::schema::Type;

/// The most that is told of one module.
const TOLD_MAX: usize = 20;

/// One place in which two declarations differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, and what: `input.b: Int, was Int?`.
    pub what: String,
    /// Whether callers of the earlier one may fail with the later one.
    pub is_breaking: bool,
}

/// Who gives the values of a type, and who takes them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Callers give them: everything that was taken has to be taken.
    Input,
    /// Callers take them: there is to be nothing that there was not.
    Output,
}

/// Where two declarations of a module differ; none: they have the same types.
pub fn differences(before: &Module, after: &Module) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(&before.input, &after.input, Side::Input, "input", &mut found);
    compare(&before.output, &after.output, Side::Output, "output", &mut found);
    found
}

/// In words; those that break callers are first.
pub fn text(found: &[Difference]) -> String {
    let breaking = found.iter().filter(|one| one.is_breaking);
    let all: Vec<_> = breaking.chain(found.iter().filter(|one| !one.is_breaking)).collect();
    let mut words: Vec<_> = all.iter().take(TOLD_MAX).map(|one| one.what.clone()).collect();
    if all.len() > TOLD_MAX {
        words.push(format!("and {} more", all.len() - TOLD_MAX));
    }
    words.join("; ")
}

/// A type, cut off where it is long.
fn shown(of: &Type) -> String {
    format!("{:.200}", of.to_string())
}

fn compare(before: &Type, after: &Type, side: Side, path: &str, found: &mut Vec<Difference>) {
    let mut differ = |is_breaking: bool| {
        found.push(Difference {
            what: format!("{path}: {}, was {}", shown(after), shown(before)),
            is_breaking,
        });
    };
    match (before, after) {
        (a, b) if a == b => {}
        (Type::Record(a), Type::Record(b)) => compare_fields(a, b, side, path, found),
        (Type::List(a), Type::List(b)) => compare(a, b, side, &format!("{path}[]"), found),
        (Type::Map(ka, va), Type::Map(kb, vb)) => {
            compare(ka, kb, side, &format!("{path}.key"), found);
            compare(va, vb, side, &format!("{path}.value"), found);
        }
        (Type::Option(a), Type::Option(b)) => compare(a, b, side, path, found),
        // A value where there may be none.
        (a, Type::Option(b)) if **b == *a => differ(side == Side::Output),
        (Type::Option(a), b) if **a == *b => differ(side == Side::Input),
        // Whole numbers are numbers.
        (Type::Int, Type::Float) => differ(side == Side::Output),
        (Type::Float, Type::Int) => differ(side == Side::Input),
        (Type::Union(a), Type::Union(b)) => {
            // Variants are called by their position.
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, side, &format!("{path}.variant{n}"), found);
            }
            if a.len() != b.len() {
                let is_breaking = if a.len() < b.len() { Side::Output } else { Side::Input } == side;
                let what = format!("{path}: {} variants, was {}", b.len(), a.len());
                found.push(Difference { what, is_breaking });
            }
        }
        _ => differ(true),
    }
}

fn compare_fields(
    before: &BTreeMap<String, Type>,
    after: &BTreeMap<String, Type>,
    side: Side,
    path: &str,
    found: &mut Vec<Difference>,
) {
    for name in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let path = format!("{path}.{name:.80}");
        match (before.get(name), after.get(name)) {
            (Some(a), Some(b)) => compare(a, b, side, &path, found),
            // Callers give it, or look for it.
            (Some(a), None) => {
                found.push(Difference { what: format!("{path}: gone, was {}", shown(a)), is_breaking: true });
            }
            (None, Some(b)) => {
                let is_breaking = side == Side::Input && !matches!(b, Type::Option(_));
                found.push(Difference { what: format!("{path}: {}, is new", shown(b)), is_breaking });
            }
            (None, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(input: Type, output: Type) -> Module {
        Module { input, output, version: String::new(), description: String::new() }
    }

    fn record(fields: &[(&str, Type)]) -> Type {
        Type::Record(fields.iter().map(|(name, of)| ((*name).to_owned(), of.clone())).collect())
    }

    fn option(of: Type) -> Type {
        Type::Option(Box::new(of))
    }

    #[test]
    fn what_callers_notice_depends_on_who_gives_the_value() {
        let (int, words) = (Type::Int, Type::String);
        let union = Type::Union;
        for (before, after, what, breaks_input, breaks_output) in [
            (int.clone(), int.clone(), "", false, false),
            (int.clone(), words.clone(), ": String, was Int", true, true),
            (int.clone(), Type::Float, ": Float, was Int", false, true),
            (Type::Float, int.clone(), ": Int, was Float", true, false),
            (int.clone(), option(int.clone()), ": Int?, was Int", false, true),
            (option(int.clone()), int.clone(), ": Int, was Int?", true, false),
            (record(&[]), record(&[("a", int.clone())]), ".a: Int, is new", true, false),
            (record(&[]), record(&[("a", option(int.clone()))]), ".a: Int?, is new", false, false),
            (record(&[("a", int.clone())]), record(&[]), ".a: gone, was Int", true, true),
            (
                union(vec![int.clone()]),
                union(vec![int.clone(), words.clone()]),
                ": 2 variants, was 1",
                false,
                true,
            ),
            (
                union(vec![int.clone(), words.clone()]),
                union(vec![int.clone()]),
                ": 1 variants, was 2",
                true,
                false,
            ),
            (union(vec![int.clone()]), union(vec![words.clone()]), ".variant0: String, was Int", true, true),
            (
                Type::List(Box::new(record(&[("a", int.clone())]))),
                Type::List(Box::new(record(&[("a", words.clone())]))),
                "[].a: String, was Int",
                true,
                true,
            ),
            (
                Type::Map(Box::new(words.clone()), Box::new(int.clone())),
                Type::Map(Box::new(words.clone()), Box::new(Type::Bool)),
                ".value: Bool, was Int",
                true,
                true,
            ),
        ] {
            for (side, breaks) in [("input", breaks_input), ("output", breaks_output)] {
                let of = |changed: &Type| match side {
                    "input" => module(changed.clone(), Type::Int),
                    _ => module(Type::Int, changed.clone()),
                };
                let found = differences(&of(&before), &of(&after));
                assert_eq!(found.iter().any(|one| one.is_breaking), breaks, "{before} {after}: {side}");
                let expected = if what.is_empty() { String::new() } else { format!("{side}{what}") };
                assert_eq!(text(&found), expected);
            }
        }
    }

    #[test]
    fn what_breaks_is_told_first_and_not_without_end() {
        let fields: Vec<_> = (0..TOLD_MAX + 5).map(|n| format!("f{n}")).collect();
        let all: Vec<_> = fields.iter().map(|name| (&**name, option(Type::Int))).collect();
        let before = module(record(&[("z", Type::Int)]), Type::Int);
        let found = differences(&before, &module(record(&all), Type::Int));
        let words = text(&found);
        assert!(words.starts_with("input.z: gone, was Int; input.f0: Int?, is new"), "{words}");
        assert!(words.ends_with("; and 6 more"), "{words}");
    }
}
