//! A world in which everything but time is somebody's own doing: see `crate::app::TestCluster`.

use super::streams::Stands;
use super::{Apps, Client, Cluster};
use anabranch::Payload;

use crate::app::Ask;
use crate::net::NodeIx;
use crate::oracle::Failure;
use crate::plan::{Ending, Fault};
use crate::world::World;

impl World {
    fn by_hand<T>(&mut self, f: impl FnOnce(&mut Apps, &mut World) -> T) -> T {
        let done = self.with_apps(f);
        done.unwrap_or_else(|| unreachable!("a world that is run by hand has an application"))
    }

    /// One more client; returns its number.
    pub(crate) fn add_client(&mut self) -> usize {
        self.by_hand(|apps, world| {
            let ix = apps.clients.len();
            apps.clients.push(Client::new(&world.plan, ix));
            ix
        })
    }

    /// A client asks, now.
    pub(crate) fn ask_by_hand(&mut self, client: usize, ask: Ask) -> Result<(), Failure> {
        self.by_hand(|apps, world| {
            apps.clients[client].wants = Some(ask);
            apps.on_client(world, client)
        })?;
        self.run_application()
    }

    /// A client wants the next reply of its stream.
    pub(crate) fn take_by_hand(&mut self, client: usize) -> Result<(), Failure> {
        self.by_hand(|apps, _| apps.want_by_hand(client));
        self.run_application()
    }

    /// A client sends a message on its stream, or says that there are no more.
    pub(crate) fn send_by_hand(&mut self, client: usize, message: Option<Payload>) -> Result<(), Failure> {
        self.by_hand(|apps, _| apps.send_by_hand(client, message));
        self.run_application()
    }

    /// A client goes away from its stream.
    pub(crate) fn leave_by_hand(&mut self, client: usize) -> Result<(), Failure> {
        self.by_hand(|apps, world| match apps.stream_by_hand(client) {
            Some(stream) => apps.on_leaves(world, client, stream),
            None => Ok(()),
        })?;
        self.run_application()
    }

    /// How a client's stream stands, while it has one.
    pub(crate) fn stream_stands(&mut self, client: usize) -> Option<Stands> {
        self.by_hand(|apps, _| apps.stands_by_hand(client))
    }

    /// A fault, now, and what comes of it.
    pub(crate) fn fault_by_hand(&mut self, fault: Fault) -> Result<(), Failure> {
        self.carry_out(fault)?;
        self.run_application()
    }

    /// A process ends, if it runs.
    pub(crate) fn stop_by_hand(&mut self, node: NodeIx, ending: Ending) -> Result<(), Failure> {
        if self.hosts[node].life.is_some() {
            self.tell(|| format!("-- n{node} ends: {ending:?}"));
            self.stop(node, ending);
        }
        self.run_application()
    }

    /// A look at the nodes.
    pub(crate) fn with_cluster<T>(&mut self, f: impl FnOnce(&Cluster<'_>) -> T) -> T {
        self.by_hand(|apps, world| f(&Cluster::new(world, &apps.functions, &apps.streams)))
    }

    /// From now on somebody hears what happens.
    pub(crate) fn set_teller(&mut self, teller: crate::world::Teller) {
        self.teller = Some(teller);
    }
}
