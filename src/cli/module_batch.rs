//! `provost module call --batch`: a call for each of several inputs, and a line for each.

use serde_json::{Value, json};

use crate::cli::batch::Counts;
use crate::cli::json;
use crate::cli::session::Session;
use crate::cli::stdout;
use crate::cli::text;
use crate::client::Client;
use crate::wire::error::Error;
use crate::wire::module::{INPUTS_LEN_MAX, INPUTS_MAX, ModuleBatch};

/// The longest text with the inputs of a batch, in bytes.
const TEXT_LEN_MAX: usize = 256 << 20;

/// A batch as it was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch {
    /// Without its inputs.
    pub batch: ModuleBatch,
    /// With which these were given.
    pub inputs: String,
    pub is_verbose: bool,
}

/// The error of a call; where the module itself has failed, stack traces are for who asks for them.
pub fn brief(e: Error, is_verbose: bool) -> Error {
    let is_trace = matches!(&*e.reason, "runtime_error" | "type_error" | "timeout");
    if is_verbose || !is_trace || e.hint.is_empty() || e.hint.starts_with('\'') {
        return e;
    }
    e.hint("'-v' shows its stack trace")
}

/// Has all of it executed, as many inputs at once as one request takes.
pub fn run(asked: &Batch, mut host: Client, session: &mut Session) -> Result<u8, Error> {
    let inputs = inputs(&text::given("--batch", &asked.inputs, TEXT_LEN_MAX)?)?;
    let (mut counts, mut number) = (Counts::default(), 0);
    for some in requests(inputs) {
        let outcomes = host.module_batch(ModuleBatch { inputs: some, ..asked.batch.clone() })?;
        for outcome in outcomes {
            number += 1;
            tell(number, outcome.map_err(|e| brief(e, asked.is_verbose)), &mut counts, session)?;
        }
        session.out.flush();
        if session.out.is_broken() {
            break;
        }
    }
    Ok(counts.exit_code())
}

fn tell(
    number: u64,
    outcome: Result<Vec<u8>, Error>,
    counts: &mut Counts,
    session: &mut Session,
) -> Result<(), Error> {
    match outcome {
        Ok(output) => {
            counts.done();
            let output: Value =
                serde_json::from_slice(&output).map_err(|e| Error::failed("read the answer", &e))?;
            session.answer(|| json!({ "input": number, "output": output }), || output.to_string());
        }
        Err(e) => {
            counts.failed(e.code);
            if !session.is_json() {
                stdout::complain(&Error { message: format!("input {number}: {}", e.message), ..e.clone() });
            }
            session.answer(|| json!({ "input": number, "error": json::error(&e) }), String::new);
        }
    }
    Ok(())
}

/// The elements of a JSON array; else each line that is not blank.
fn inputs(text: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let text = std::str::from_utf8(text).map_err(|_| Error::usage("the inputs are not UTF-8"))?;
    if text.trim_start().starts_with('[')
        && let Ok(all) = serde_json::from_str::<Vec<Value>>(text)
    {
        return Ok(all.into_iter().map(|value| value.to_string().into_bytes()).collect());
    }
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let inputs = lines.map(|(n, line)| match serde_json::from_str::<serde::de::IgnoredAny>(line) {
        Ok(_) => Ok(line.as_bytes().to_vec()),
        Err(e) => Err(Error::usage(format!("line {} of the inputs is no JSON: {e}", n + 1))
            .hint("'--batch' takes a JSON array, or one JSON value on each line")),
    });
    inputs.collect()
}

/// What goes into each request.
fn requests(inputs: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let (mut all, mut len) = (Vec::new(), 0);
    for input in inputs {
        len += input.len();
        match all.last_mut() {
            Some(some) if Vec::len(some) < INPUTS_MAX && len <= INPUTS_LEN_MAX => some.push(input),
            _ => {
                len = input.len();
                all.push(vec![input]);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::error::Code;

    fn read(text: &str) -> Result<Vec<String>, Error> {
        let all = inputs(text.as_bytes())?;
        Ok(all.into_iter().map(|input| String::from_utf8(input).unwrap()).collect())
    }

    #[test]
    fn inputs_are_an_array_or_lines() {
        for (text, all) in [
            ("", &[][..]),
            (" []\n", &[]),
            ("[1,\n{\"a\": 2}]", &["1", "{\"a\":2}"]),
            ("1\n\n{\"b\": 1, \"a\": 2}\r\n", &["1", "{\"b\": 1, \"a\": 2}"]),
            ("[1]\n[2]", &["[1]", "[2]"]),
        ] {
            assert_eq!(read(text), Ok(all.iter().map(|&input| input.to_owned()).collect()), "{text}");
        }
        let e = read("1\n{\n").unwrap_err();
        assert!(e.code == Code::Usage && e.message.contains("line 2"), "{e:?}");
    }

    #[test]
    fn a_request_has_as_many_as_it_takes() {
        let lens = |inputs: Vec<Vec<u8>>| requests(inputs).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens(vec![vec![b'1']; 2 * INPUTS_MAX + 1]), [INPUTS_MAX, INPUTS_MAX, 1]);
        assert_eq!(lens(vec![vec![b'1'; INPUTS_LEN_MAX / 2]; 3]), [2, 1]);
        assert!(lens(Vec::new()).is_empty());
    }
}
