//! The options that say how a process is to be run, for the commands that start one: words to a checked
//! `Spec`.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs, io};

use serde_json::Value;

use crate::cli::arguments::Arguments;
use crate::cli::env_file;
use crate::cli::text;
use crate::cli::values;
use crate::wire::cgroup_fields::cgroup_field;
use crate::wire::error::{Code, Error};
use crate::wire::field_values;
use crate::wire::hooks::{OnFailure, When};
use crate::wire::id::quoted;
use crate::wire::log::{Log, LogFormat};
use crate::wire::needs::OnDependency;
use crate::wire::probes::{Liveness, Readiness};
use crate::wire::schedule::{Missed, Overlap};
use crate::wire::spec::{EnvBase, EnvExpand, OUTPUT_BYTES_DEFAULT, Spec};

pub struct SpecOptions {
    spec: Spec,
    /// Whether a shell gets the whole as one text.
    shell: bool,
    /// The options seen, for a message.
    seen: Vec<String>,
}

impl SpecOptions {
    /// Everything as by default.
    pub fn new() -> Self {
        Self::keeping(OUTPUT_BYTES_DEFAULT)
    }

    /// The same, with another amount of output kept by default.
    pub fn keeping(output_bytes: u64) -> Self {
        let mut spec = Spec::new([""; 0]);
        spec.output_bytes = output_bytes;
        Self { spec, shell: false, seen: Vec::new() }
    }

    /// Takes an option in; false when it is none of these.
    pub fn take(&mut self, option: &str, arguments: &mut Arguments) -> Result<bool, Error> {
        if !self.take_environment(option, arguments)?
            && !self.take_rights(option, arguments)?
            && !self.take_rules(option, arguments)?
            && !self.take_schedule(option, arguments)?
            && !self.take_hook(option, arguments)?
            && !self.take_limit(option, arguments)?
        {
            return Ok(false);
        }
        self.seen.push(option.to_owned());
        Ok(true)
    }

    /// An option that was given and belongs to a new process only.
    pub fn first_seen(&self) -> Option<&str> {
        self.seen.first().map(String::as_str)
    }

    /// What was said, of a process that is there already: the options, and a spec with their values.
    pub fn changes(mut self, program: Option<Vec<String>>) -> Result<(Vec<String>, Spec), Error> {
        if self.shell && program.is_none() {
            return Err(Error::usage("--shell is for a command, but there is no --")
                .hint("write: --shell -- 'COMMAND | ...'"));
        }
        if let Some(program) = program {
            self.seen.push("--command".to_owned());
            self.set_command(program)?;
        }
        if let Some(cwd) = &self.spec.cwd {
            self.spec.cwd = Some(directory(Some(cwd))?);
        }
        Ok((self.seen, self.spec))
    }

    fn set_command(&mut self, program: Vec<String>) -> Result<(), Error> {
        if program.is_empty() {
            return Err(Error::usage("there is no program behind --").hint("write: -- PROGRAM [ARG...]"));
        }
        self.spec.command = match self.shell {
            false => program,
            true => vec!["/bin/sh".into(), "-c".into(), program.join(" ")],
        };
        Ok(())
    }

    /// The whole, with its program.
    pub fn finish(mut self, program: Vec<String>) -> Result<Spec, Error> {
        self.set_command(program)?;
        self.spec.cwd = Some(directory(self.spec.cwd.as_deref())?);
        self.spec.check()?;
        Ok(self.spec)
    }

    fn take_environment(&mut self, option: &str, arguments: &mut Arguments) -> Result<bool, Error> {
        let spec = &mut self.spec;
        match option {
            "--name" => spec.name = Some(arguments.value(option)?.parse()?),
            "--shell" => self.shell = true,
            "--env" | "-e" => spec.env.push(values::pair(option, &arguments.value(option)?)?),
            "--env-file" => spec.env.extend(env_file::read(&arguments.value(option)?)?),
            "--clear-env" => spec.env_base = EnvBase::Empty,
            "--no-expand" => spec.env_expand = EnvExpand::Literal,
            "--cwd" => spec.cwd = Some(arguments.value(option)?),
            "--autostart" => spec.autostart = Some(true),
            "--no-autostart" => spec.autostart = Some(false),
            "--label" => spec.labels.push(values::pair(option, &arguments.value(option)?)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_rights(&mut self, option: &str, arguments: &mut Arguments) -> Result<bool, Error> {
        let spec = &mut self.spec;
        match option {
            "--user" => spec.user = Some(arguments.value(option)?),
            "--group" => spec.group = Some(arguments.value(option)?),
            "--groups" => {
                let groups = arguments.value(option)?;
                spec.groups.extend(groups.split(',').map(|group| group.trim().to_owned()));
            }
            "--umask" => spec.umask = Some(values::umask(option, &arguments.value(option)?)?),
            "--nice" => spec.nice = Some(arguments.number(option)?),
            "--oom-score-adj" => spec.oom_score_adj = Some(arguments.number(option)?),
            "--no-new-privs" => spec.no_new_privs = true,
            "--sha256" => spec.executable_sha256 = Some(values::sha256(&arguments.value(option)?)?),
            "--landlock-read" => spec.landlock.read.push(arguments.value(option)?),
            "--landlock-write" => spec.landlock.write.push(arguments.value(option)?),
            "--landlock-optional" => spec.landlock.optional = true,
            "--limit" => spec.rlimits.push(values::rlimit(option, &arguments.value(option)?)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_rules(&mut self, option: &str, arguments: &mut Arguments) -> Result<bool, Error> {
        let Spec { restart, stop, .. } = &mut self.spec;
        match option {
            "--restart" => restart.policy = values::restart_policy(option, &arguments.value(option)?)?,
            "--restart-delay" => restart.delay = arguments.duration(option)?,
            "--restart-delay-max" => restart.delay_max = arguments.duration(option)?,
            "--max-restarts" => {
                restart.max_restarts = values::max_restarts(option, &arguments.value(option)?)?
            }
            "--restart-window" => restart.window = arguments.duration(option)?,
            "--reset-after" => restart.reset_after = arguments.duration(option)?,
            "--success-codes" => {
                restart.success_codes = values::exit_codes(option, &arguments.value(option)?)?
            }
            "--stop-signal" => stop.set_signals(&arguments.value(option)?)?,
            "--stop-timeout" => stop.timeout = values::stop_timeout(option, &arguments.value(option)?)?,
            "--stop-scope" => stop.scope = values::stop_scope(option, &arguments.value(option)?)?,
            "--output-limit" => self.spec.output_bytes = values::size(option, &arguments.value(option)?)?,
            "--merge-streams" => self.spec.merge_streams = true,
            "--log" => self.log().file = Some(arguments.value(option)?),
            "--log-stdout" => self.log().stdout = Some(arguments.value(option)?),
            "--log-stderr" => self.log().stderr = Some(arguments.value(option)?),
            "--log-size" => {
                let value = arguments.value(option)?;
                self.log().size = (value != "none").then(|| values::size(option, &value)).transpose()?;
            }
            "--log-age" => self.log().age = Some(arguments.duration(option)?),
            "--log-keep" => self.log().keep = arguments.number(option)?,
            "--log-gzip" => self.log().gzip = true,
            "--log-format" => {
                let value = arguments.value(option)?;
                let found = LogFormat::ALL.into_iter().find(|format| format.name() == value);
                self.log().format =
                    found.ok_or_else(|| values::bad(option, &value, "write raw, time or json"))?;
            }
            "--log-prefix" => self.log().prefix = Some(arguments.value(option)?),
            "--log-field" => self.log().fields.push(arguments.value(option)?),
            "--log-to" => self.log().to = Some(arguments.value(option)?),
            "--redact" => self.spec.redact.push(arguments.value(option)?),
            "--essential" => self.spec.essential = true,
            "--forking" => self.spec.background.forking = true,
            "--pid-file" => self.spec.background.pid_file = Some(arguments.value(option)?),
            _ => return self.take_probes(option, arguments),
        }
        Ok(true)
    }

    fn take_schedule(&mut self, option: &str, arguments: &mut Arguments) -> Result<bool, Error> {
        let schedule = Arc::make_mut(&mut self.spec.schedule);
        match option {
            "--schedule" => schedule.when = Some(arguments.value(option)?),
            "--schedule-zone" => schedule.zone = Some(arguments.value(option)?),
            "--schedule-overlap" => {
                let value = arguments.value(option)?;
                let found = Overlap::ALL.into_iter().find(|overlap| overlap.name() == value);
                let all = "write forbid or replace; a process has one run at a time";
                schedule.overlap = found.ok_or_else(|| values::bad(option, &value, all))?;
            }
            "--schedule-missed" => {
                let value = arguments.value(option)?;
                let found = Missed::ALL.into_iter().find(|missed| missed.name() == value);
                schedule.missed = found.ok_or_else(|| values::bad(option, &value, "write skip or run"))?;
            }
            "--schedule-jitter" => schedule.jitter = arguments.duration(option)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What it may take of the machine: the keys of the configuration, with dashes.
    fn take_limit(&mut self, option: &str, arguments: &mut Arguments) -> Result<bool, Error> {
        if option == "--limits-optional" {
            self.spec.cgroup.optional = true;
            return Ok(true);
        }
        let key = option.strip_prefix("--").unwrap_or_default().replace('-', "_");
        let Some(field) = cgroup_field(&key) else { return Ok(false) };
        let value = arguments.value(option)?;
        let number = value.parse::<u64>().ok().map(Value::from);
        let word = value.parse::<bool>().ok().map(Value::from);
        let as_json = number.or(word).unwrap_or_else(|| value.as_str().into());
        (field.set)(&mut self.spec, &as_json)
            .map_err(|takes| values::bad(option, &value, &format!("it takes {takes}")))?;
        Ok(true)
    }

    fn take_hook(&mut self, option: &str, arguments: &mut Arguments) -> Result<bool, Error> {
        let key = option.trim_start_matches('-').replace('-', "_");
        let Some(when) = When::ALL.into_iter().find(|when| key.starts_with(when.name())) else {
            return Ok(false);
        };
        let hook = Arc::make_mut(&mut self.spec.hooks).of_mut(when);
        match key.strip_prefix(when.name()) {
            Some("") => hook.command = by_shell(arguments.value(option)?),
            Some("_timeout") => hook.timeout = Some(arguments.duration(option)?),
            Some("_failure") => {
                let value = arguments.value(option)?;
                let found = OnFailure::ALL.into_iter().find(|what| what.name() == value);
                let all = "write fail, ignore or retry";
                hook.on_failure = Some(found.ok_or_else(|| values::bad(option, &value, all))?);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn take_probes(&mut self, option: &str, arguments: &mut Arguments) -> Result<bool, Error> {
        let Spec { ready_rules, live_rules, needs, .. } = &mut self.spec;
        let names = |text: String| text.split(',').map(|name| name.trim().to_owned()).collect::<Vec<_>>();
        match option {
            "--requires" => Arc::make_mut(needs).requires.extend(names(arguments.value(option)?)),
            "--wants" => Arc::make_mut(needs).wants.extend(names(arguments.value(option)?)),
            "--after" => Arc::make_mut(needs).after.extend(names(arguments.value(option)?)),
            "--on-dependency" => {
                let value = arguments.value(option)?;
                let found = OnDependency::ALL.into_iter().find(|what| what.name() == value);
                Arc::make_mut(needs).on_dependency =
                    found.ok_or_else(|| values::bad(option, &value, "write restart, stop or ignore"))?;
            }
            "--in-group" => Arc::make_mut(needs).in_group = Some(arguments.value(option)?),
            "--ready-line" => self.set_ready(Readiness::Line(arguments.value(option)?))?,
            "--ready-tcp" => self.set_ready(Readiness::Tcp(arguments.number(option)?))?,
            "--ready-notify" => self.set_ready(Readiness::Notify)?,
            "--ready-http" => self.set_ready(Readiness::Http(arguments.value(option)?))?,
            "--ready-exec" => self.set_ready(Readiness::Exec(by_shell(arguments.value(option)?)))?,
            "--ready-grpc" => self.set_ready(Readiness::Grpc(arguments.value(option)?))?,
            "--ready-exit" => self.set_ready(Readiness::Exit)?,
            "--fail-line" => ready_rules.fail_line = Some(arguments.value(option)?),
            "--ready-timeout" => ready_rules.timeout = Some(arguments.duration(option)?),
            "--ready-interval" => ready_rules.interval = Some(arguments.duration(option)?),
            "--ready-attempt" => ready_rules.attempt = arguments.duration(option)?,
            "--ready-delay" => ready_rules.delay = arguments.duration(option)?,
            "--ready-successes" => ready_rules.successes = arguments.number(option)?,
            "--ready-recheck" => ready_rules.recheck = Some(arguments.duration(option)?),
            "--ready-failures" => ready_rules.failures = arguments.number(option)?,
            "--live-tcp" => self.set_live(Liveness::Tcp(arguments.number(option)?))?,
            "--live-http" => self.set_live(Liveness::Http(arguments.value(option)?))?,
            "--live-exec" => self.set_live(Liveness::Exec(by_shell(arguments.value(option)?)))?,
            "--live-grpc" => self.set_live(Liveness::Grpc(arguments.value(option)?))?,
            "--live-notify" => self.set_live(Liveness::Notify)?,
            "--live-interval" => live_rules.interval = arguments.duration(option)?,
            "--live-attempt" => live_rules.attempt = arguments.duration(option)?,
            "--live-delay" => live_rules.delay = arguments.duration(option)?,
            "--live-failures" => live_rules.failures = arguments.number(option)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn log(&mut self) -> &mut Log {
        Arc::make_mut(&mut self.spec.log)
    }

    fn set_live(&mut self, live: Liveness) -> Result<(), Error> {
        if self.spec.live.is_some() {
            return Err(Error::usage("what shows its life is said twice")
                .hint(format!("give one of {}", options_of("live_tcp"))));
        }
        self.spec.live = Some(live);
        Ok(())
    }

    fn set_ready(&mut self, ready: Readiness) -> Result<(), Error> {
        if self.spec.ready.is_some() {
            return Err(Error::usage("readiness is said twice")
                .hint(format!("give one of {}", options_of("ready_line"))));
        }
        self.spec.ready = Some(ready);
        Ok(())
    }
}

/// A probe's command, as it is given in one word.
fn by_shell(command: String) -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned(), command]
}

/// The options of a field's alternatives.
fn options_of(key: &str) -> String {
    let option = |key: &&str| format!("--{}", key.replace('_', "-"));
    field_values::alternatives(key).iter().map(option).collect::<Vec<_>>().join(", ")
}

/// The working directory as the service has to know it: absolute.
fn directory(wanted: Option<&str>) -> Result<String, Error> {
    if let Some(wanted) = wanted.filter(|dir| dir.starts_with('/')) {
        return Ok(wanted.to_owned());
    }
    let here = present_directory().map_err(|e| {
        Error::new(Code::Failed, format!("the present directory cannot be told: {}", text::cause(&e)))
            .hint("go to another one, or give an absolute --cwd DIR")
    })?;
    let whole: PathBuf = wanted.map_or_else(|| here.clone(), |dir| here.join(dir));
    whole.into_os_string().into_string().map_err(|dir| {
        Error::usage(format!("directory {} is not valid UTF-8", quoted(&dir.to_string_lossy())))
            .hint("give another one with --cwd DIR")
    })
}

/// Where we are, by the path on which the shell came here if it still leads here: through a link, say,
/// which is to be followed anew at each start.
fn present_directory() -> io::Result<PathBuf> {
    let here = env::current_dir()?;
    let file = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let is_here = |path: &PathBuf| path.is_absolute() && file(path).is_some_and(|f| Some(f) == file(&here));
    Ok(env::var_os("PWD").map(PathBuf::from).filter(is_here).unwrap_or(here))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::arguments::Argument;
    use crate::wire::spec::RestartPolicy;
    use std::time::Duration;

    fn spec_of(line: &str) -> Result<Spec, Error> {
        let mut arguments = Arguments::new(line.split(' ').map(Into::into))?;
        let program = arguments.take_program().unwrap_or_default();
        let mut options = SpecOptions::new();
        while let Some(Argument::Option(option)) = arguments.next()? {
            assert!(options.take(&option, &mut arguments)?, "{option}");
        }
        options.finish(program)
    }

    #[test]
    fn options_become_a_spec() {
        let spec = spec_of(
            "--name web -e A=1 --env B=x=y --cwd /tmp --umask 027 --nice -5 --limit nofile=64 --restart always \
             --max-restarts none --stop-signal int --stop-timeout 2s --ready-tcp 80 --success-codes 0,3 -- a -b c",
        )
        .unwrap();
        assert_eq!(spec.command, ["a", "-b", "c"]);
        assert_eq!(spec.env, [("A".into(), "1".into()), ("B".into(), "x=y".into())]);
        assert_eq!((spec.umask, spec.nice, spec.cwd.as_deref()), (Some(0o27), Some(-5), Some("/tmp")));
        assert_eq!((spec.restart.policy, spec.restart.max_restarts), (RestartPolicy::Always, None));
        assert_eq!((spec.stop.signal, spec.stop.timeout), (2, Duration::from_secs(2)));
        assert_eq!((spec.ready, spec.restart.success_codes), (Some(Readiness::Tcp(80)), vec![0, 3]));
    }

    #[test]
    fn a_shell_gets_one_text() {
        assert_eq!(spec_of("--shell -- a | b").unwrap().command, ["/bin/sh", "-c", "a | b"]);
    }

    #[test]
    fn a_relative_directory_is_joined_to_the_present_one() {
        let here = env::current_dir().unwrap().into_os_string().into_string().unwrap();
        assert_eq!(spec_of("-- a").unwrap().cwd, Some(here.clone()));
        assert_eq!(spec_of("--cwd sub -- a").unwrap().cwd, Some(format!("{here}/sub")));
    }

    #[test]
    fn bad_values_are_refused() {
        for line in
            ["--name -x -- a", "--env A -- a", "--umask 9 -- a", "--nice x -- a", "--restart no -- a", "--"]
        {
            assert!(spec_of(line).is_err_and(|e| e.code == Code::Usage), "{line}");
        }
        assert!(spec_of("--ready-tcp 1 --ready-line x -- a").is_err());
    }
}
