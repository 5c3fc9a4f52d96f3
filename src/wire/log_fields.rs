//! The fields of a definition that say into which files output is written, and what of it is not.

use std::sync::Arc;

use serde_json::Value;

use crate::wire::field::{Effect, Field};
use crate::wire::field_values::{DURATION, flag, text, texts, time};
use crate::wire::log::{KEEP_DEFAULT, KEEP_MAX, Log, LogFormat, MORE_FIELDS, SIZE_DEFAULT};
use crate::wire::receiver::{self, Receiver};
use crate::wire::redact;
use crate::wire::spec::Spec;
use crate::wire::values::{duration_text, size, size_text};

const FILE: &str = "an absolute path, or a name in the service's directory for logs; {name} is the process's";
const SIZE: &str = "a size from \"4 KiB\", or \"none\"";
const KEEP: &str = "a whole number from 0 to 1000";
const MORE: &str = "a list of \"id\", \"instance\", \"pid\", \"host\" and \"labels\"";
const FORMAT: &str = "\"raw\", \"time\" or \"json\"";

/// All of them, in the order in which they are shown.
pub(in crate::wire) const LOG_FIELDS: [Field; 12] = [
    Field {
        key: "log",
        effect: Effect::InPlace,
        takes: FILE,
        get: |s| s.log.file.clone().map(Into::into),
        set: |s, v| text(v).map(|file| log(s).file = Some(file)),
    },
    Field {
        key: "log_stdout",
        effect: Effect::InPlace,
        takes: FILE,
        get: |s| s.log.stdout.clone().map(Into::into),
        set: |s, v| text(v).map(|file| log(s).stdout = Some(file)),
    },
    Field {
        key: "log_stderr",
        effect: Effect::InPlace,
        takes: FILE,
        get: |s| s.log.stderr.clone().map(Into::into),
        set: |s, v| text(v).map(|file| log(s).stderr = Some(file)),
    },
    Field {
        key: "log_size",
        effect: Effect::InPlace,
        takes: SIZE,
        get: |s| {
            (s.log.size != Some(SIZE_DEFAULT))
                .then(|| s.log.size.map_or("none".into(), |n| size_text(n).into()))
        },
        set: |s, v| {
            log(s).size = match v.as_str() {
                Some("none") => None,
                _ => Some(v.as_u64().or_else(|| size(v.as_str()?)).ok_or_else(|| SIZE.to_owned())?),
            };
            Ok(())
        },
    },
    Field {
        key: "log_age",
        effect: Effect::InPlace,
        takes: DURATION,
        get: |s| s.log.age.map(|age| duration_text(age).into()),
        set: |s, v| time(v).map(|age| log(s).age = Some(age)),
    },
    Field {
        key: "log_keep",
        effect: Effect::InPlace,
        takes: KEEP,
        get: |s| (s.log.keep != KEEP_DEFAULT).then(|| s.log.keep.into()),
        set: |s, v| {
            let number = v.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|&n| n <= KEEP_MAX);
            log(s).keep = number.ok_or_else(|| KEEP.to_owned())?;
            Ok(())
        },
    },
    Field {
        key: "log_gzip",
        effect: Effect::InPlace,
        takes: "true or false",
        get: |s| s.log.gzip.then(|| true.into()),
        set: |s, v| flag(v).map(|is| log(s).gzip = is),
    },
    Field {
        key: "log_format",
        effect: Effect::InPlace,
        takes: FORMAT,
        get: |s| (s.log.format != LogFormat::default()).then(|| s.log.format.name().into()),
        set: |s, v| format(v).map(|format| log(s).format = format),
    },
    Field {
        key: "log_prefix",
        effect: Effect::InPlace,
        takes: "a string that stands before each line; {name} and {stream} are replaced",
        get: |s| s.log.prefix.clone().map(Into::into),
        set: |s, v| text(v).map(|prefix| log(s).prefix = Some(prefix)),
    },
    Field {
        key: "log_fields",
        effect: Effect::InPlace,
        takes: MORE,
        get: |s| (!s.log.fields.is_empty()).then(|| s.log.fields.clone().into()),
        set: |s, v| {
            let fields = texts(v).ok().filter(|all| all.iter().all(|f| MORE_FIELDS.contains(&f.as_str())));
            log(s).fields = fields.ok_or_else(|| MORE.to_owned())?;
            Ok(())
        },
    },
    Field {
        key: "log_to",
        effect: Effect::InPlace,
        takes: receiver::TAKES,
        get: |s| s.log.to.clone().map(Into::into),
        set: |s, v| {
            let to = text(v).ok().filter(|to| to == "none" || Receiver::parse(to).is_ok());
            let to = to.ok_or_else(|| receiver::TAKES.to_owned())?;
            log(s).to = (to != "none").then_some(to);
            Ok(())
        },
    },
    Field {
        key: "redact",
        effect: Effect::InPlace,
        takes: "a list of regular expressions: what they match in a line of output is never seen",
        get: |s| (!s.redact.is_empty()).then(|| s.redact.clone().into()),
        set: |s, v| {
            let patterns = texts(v)?;
            redact::check(&patterns).map_err(|e| format!("regular expressions: {}", e.message))?;
            s.redact = patterns;
            Ok(())
        },
    },
];

fn log(spec: &mut Spec) -> &mut Log {
    Arc::make_mut(&mut spec.log)
}

fn format(value: &Value) -> Result<LogFormat, String> {
    let found = LogFormat::ALL.into_iter().find(|format| value.as_str() == Some(format.name()));
    found.ok_or_else(|| FORMAT.to_owned())
}
