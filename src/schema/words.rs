//! What a validator finds, in our words: it would name the values, which may be secrets.

use boon::{CompileError, ErrorKind, ValidationError};

use crate::wire::error::Detail;

/// The longest text that is told of a schema.
const WORDS_LEN_MAX: usize = 300;

/// All that is wrong, each where it is.
pub fn faults(e: &ValidationError<'_, '_>) -> Vec<Detail> {
    let mut all = Vec::new();
    collect(e, &mut all);
    all
}

fn collect(e: &ValidationError<'_, '_>, all: &mut Vec<Detail>) {
    let inner = |all: &mut Vec<Detail>| e.causes.iter().for_each(|cause| collect(cause, all));
    match &e.kind {
        // What is wrong is inside of them.
        ErrorKind::Group
        | ErrorKind::Schema { .. }
        | ErrorKind::ContentSchema
        | ErrorKind::Reference { .. }
        | ErrorKind::AllOf
            if !e.causes.is_empty() =>
        {
            inner(all);
        }
        ErrorKind::AnyOf | ErrorKind::OneOf(None) if !e.causes.is_empty() => {
            let mut each = Vec::new();
            inner(&mut each);
            let each: Vec<_> = each.iter().map(|fault| format!("{} {}", fault.path, fault.message)).collect();
            let why = format!("fits none of what it may be: {}", each.join(", or: "));
            all.push(fault(e, cut(why)));
        }
        ErrorKind::AdditionalProperties { got } => all.extend(got.iter().map(|key| Detail {
            path: format!("{}/{}", e.instance_location, key.replace('~', "~0").replace('/', "~1")),
            message: "is not known".to_owned(),
        })),
        kind => all.push(fault(e, cut(why(kind)))),
    }
}

fn fault(e: &ValidationError<'_, '_>, message: String) -> Detail {
    Detail { path: e.instance_location.to_string(), message }
}

/// Without the value.
fn why(kind: &ErrorKind<'_, '_>) -> String {
    match kind {
        ErrorKind::FalseSchema => "must not be there".to_owned(),
        ErrorKind::Format { want, .. } => format!("is no valid {want}"),
        ErrorKind::Pattern { want, .. } => format!("does not match the pattern {want}"),
        ErrorKind::Minimum { want, .. } => format!("is less than {want}"),
        ErrorKind::Maximum { want, .. } => format!("is more than {want}"),
        ErrorKind::ExclusiveMinimum { want, .. } => format!("is not more than {want}"),
        ErrorKind::ExclusiveMaximum { want, .. } => format!("is not less than {want}"),
        ErrorKind::MultipleOf { want, .. } => format!("is no multiple of {want}"),
        ErrorKind::ContentEncoding { want, .. } => format!("is not encoded as {want}"),
        ErrorKind::ContentMediaType { want, .. } => format!("is not of the type {want}"),
        ErrorKind::Not => "is what it must not be".to_owned(),
        ErrorKind::Required { want } => format!("lacks {}", want.join(", ")),
        other => other.to_string(),
    }
}

/// What is wrong with a schema.
pub fn bad(e: &CompileError) -> String {
    match e {
        CompileError::ValidationError { src, .. } => {
            let all = faults(src);
            let all: Vec<_> = all.iter().map(|fault| format!("{} {}", fault.path, fault.message)).collect();
            cut(format!("it is no JSON Schema: {}", all.join("; ")))
        }
        other => cut(format!("it cannot be used: {other}")),
    }
}

fn cut(mut text: String) -> String {
    if text.len() > WORDS_LEN_MAX {
        text.truncate(text.floor_char_boundary(WORDS_LEN_MAX));
        text.push('…');
    }
    text
}
