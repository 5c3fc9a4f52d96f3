//! Sockets whose files somebody has taken away are made again: a service that nobody can reach is as good as
//! none, and looks like a place that is free.

use std::path::Path;

use crate::keeper::notice::Notice;
use crate::keeper::socket_dir::GrpcSocket;
use crate::keeper::state::Keeper;
use crate::wire::error::Error;

impl Keeper<'_> {
    /// Makes again what has gone. The engine is started anew then: it gets all sockets when it begins.
    pub(super) fn renew_sockets(&mut self) {
        let was_failing = self.resources.sockets.due().is_some();
        if !self.resources.sockets.take() {
            return;
        }
        if let Err(e) = self.renew() {
            self.resources.sockets.look_later();
            if !was_failing {
                (self.notify)(Notice::Failure(format!("a socket was taken away: {}", e.message)));
            }
        }
    }

    fn renew(&mut self) -> Result<(), Error> {
        let resources = &mut self.resources;
        if !resources.socket_dir.is_there() {
            resources.listener = resources.socket_dir.renew()?;
            let socket = resources.socket_dir.socket().to_owned();
            let log = resources.spawner.renew_log(&socket);
            self.renewed(&socket);
            log.map_err(|e| Error::failed("put spawns on record again", &e))?;
        }
        let resources = &mut self.resources;
        if let Some(grpc) = resources.grpc.as_ref().filter(|grpc| !grpc.is_there()) {
            let path = grpc.path().to_owned();
            resources.grpc = Some(GrpcSocket::again(&path, resources.socket_dir.is_open())?);
            self.renewed(&path);
        }
        Ok(())
    }

    fn renewed(&mut self, socket: &Path) {
        self.resources.sockets.add(socket);
        let text = format!("{} was taken away: made again", socket.display());
        (self.notify)(Notice::Failure(text));
        self.give_up_engine();
    }
}
