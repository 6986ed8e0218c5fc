//! A world in which everything but time is somebody's own doing: see `crate::app::TestCluster`.

use super::{Apps, Client, Cluster};
use crate::app::Ask;
use crate::net::NodeIx;
use crate::oracle::Failure;
use crate::plan::{Ending, Fault};
use crate::queue::Micros;
use crate::world::World;

impl World {
    /// With the application, while something is done to both.
    fn with_apps<T>(&mut self, f: impl FnOnce(&mut Apps, &mut World) -> T) -> T {
        let Some(mut apps) = self.apps.take() else {
            unreachable!("a world that is run by hand has an application");
        };
        let done = f(&mut apps, self);
        self.apps = Some(apps);
        done
    }

    /// One more client; returns its number.
    pub(crate) fn add_client(&mut self) -> usize {
        self.with_apps(|apps, world| {
            let ix = apps.clients.len();
            apps.clients.push(Client::new(&world.plan, ix));
            ix
        })
    }

    /// A client asks, now.
    pub(crate) fn ask_by_hand(&mut self, client: usize, ask: Ask) -> Result<(), Failure> {
        self.with_apps(|apps, world| {
            apps.clients[client].wants = Some(ask);
            apps.on_client(world, client)
        })?;
        self.run_application()
    }

    /// Time goes on to the next thing that happens, and no further than `until`: whether there was one.
    pub(crate) fn next_by_hand(&mut self, until: Micros) -> Result<bool, Failure> {
        self.go_on(until)
    }

    /// Nothing more happens until then.
    pub(crate) fn pass_by_hand(&mut self, until: Micros) {
        self.kernel.pass(until);
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

    /// All links can be again.
    pub(crate) fn heal_by_hand(&mut self) {
        self.tell(|| "-- all are linked".to_owned());
        let (now, rest) = (self.kernel.now(), self.plan.rest.clone());
        let kernel = &mut self.kernel;
        self.net.heal(now, &rest, &mut |at, event| {
            kernel.at(at, crate::world::Event::Net(event));
        });
    }

    /// A look at the nodes.
    pub(crate) fn with_cluster<T>(&mut self, f: impl FnOnce(&Cluster<'_>) -> T) -> T {
        self.with_apps(|apps, world| f(&Cluster::new(world, &apps.functions)))
    }

    /// From now on somebody hears what happens.
    pub(crate) fn set_teller(&mut self, teller: crate::world::Teller) {
        self.teller = Some(teller);
    }
}
