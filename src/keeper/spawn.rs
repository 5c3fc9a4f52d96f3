//! The keeper's side of a spawn: pipes, fork, and what to keep. Policy-free; a failure names its step.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use crate::keeper::child::{self as birth, Birth};
use crate::sys::child::{Fork, SingleThreaded, fork};
use crate::sys::memory;
use crate::sys::signal::Ignored;
use crate::wire::keeper::{Place, Step};

/// What every spawn uses.
#[derive(Debug)]
pub struct Spawner {
    alone: SingleThreaded,
    null: File,
    nofile: (u64, u64),
    ignored: Ignored,
}

/// A child that was just born, and our ends of its pipes.
#[derive(Debug)]
pub struct Born {
    pub pid: u32,
    pub pidfd: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// What the engine gives with a spawn.
#[derive(Debug)]
pub struct Given {
    /// The child keeps it until its exec: that it closes tells the engine.
    pub until_exec: Option<OwnedFd>,
    /// Where the child is to be born.
    pub cgroup: Option<OwnedFd>,
}

impl Spawner {
    /// `nofile`: the limit of descriptors children get unless they ask for another.
    pub fn new(nofile: (u64, u64)) -> io::Result<Self> {
        let (alone, null) = (SingleThreaded::claim()?, File::open("/dev/null")?);
        Ok(Self { alone, null, nofile, ignored: Ignored::now() })
    }

    /// The token that lets the keeper fork its engine.
    pub fn alone(&self) -> &SingleThreaded {
        &self.alone
    }

    /// Starts the program that lies at `launch` in `memory`. Returns before it executes.
    pub fn spawn(
        &self,
        memory: &File,
        run: u64,
        launch: Place,
        given: &Given,
    ) -> Result<Born, (Step, io::Error)> {
        use std::os::fd::AsFd;
        let pipe = || memory::pipe().map_err(|e| (Step::Pipe, e));
        let ((stdout, child_out), (stderr, child_err)) = (pipe()?, pipe()?);
        match fork(&self.alone, given.cgroup.as_ref().map(AsFd::as_fd)).map_err(|e| (Step::Fork, e))? {
            Fork::Child => {
                // Stays open in the child until exec closes it.
                let _until_exec = &given.until_exec;
                let birth = Birth {
                    memory,
                    launch,
                    run,
                    stdin: &self.null,
                    stdout: File::from(child_out),
                    stderr: File::from(child_err),
                    nofile: self.nofile,
                    ignored: self.ignored,
                };
                birth::run(&birth)
            }
            Fork::Parent { pid, pidfd } => Ok(Born { pid, pidfd, stdout, stderr }),
        }
    }
}
