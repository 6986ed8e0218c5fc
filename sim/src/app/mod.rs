//! Applications under simulation: real functions, whole clusters, faults, and an oracle of the application's own.
//!
//! An [`Application`] says which functions nodes have, what its clients ask for, and what must hold of the answers and of what
//! every node shows in the end. A [`Simulation`] runs it on a cluster of engines, stores and sessions as in production, over a
//! virtual network, virtual disks and virtual clocks, with partitions, crashes and whatever else its seed draws; then it heals
//! all of that, waits until the nodes agree, and asks the application once more.
//!
//! ```
//! use anabranch::state::PnCounter;
//! use anabranch::{Context, Function};
//! use anabranch_sim::app::{self, Answered, Application, Ask, Client, Cluster};
//!
//! /// Counts what it was told is in, and what may be.
//! #[derive(Default)]
//! struct Hits {
//!     surely: i64,
//!     perhaps: i64,
//! }
//!
//! impl Application for Hits {
//!     fn functions(&self) -> Vec<Function> {
//!         let hits = Function::of::<PnCounter>("hits")
//!             .command("hit", |hits, _: &mut Context, ()| {
//!                 hits.increment(1);
//!                 Ok::<_, String>(())
//!             })
//!             .query("show", |hits, _, ()| Ok::<_, String>(hits.get()));
//!         vec![hits.into()]
//!     }
//!
//!     fn next(&mut self, client: &mut Client) -> Option<Ask> {
//!         Some(Ask::of("hits", "front page", "hit", &()).at(client.any_node()))
//!     }
//!
//!     fn on_answer(&mut self, answered: &Answered, _: &Cluster<'_>) -> Result<(), String> {
//!         self.surely += i64::from(answered.result.is_ok());
//!         self.perhaps += i64::from(answered.may_have_run());
//!         Ok(())
//!     }
//!
//!     fn at_rest(&mut self, cluster: &Cluster<'_>) -> Result<(), String> {
//!         for node in 0..cluster.nodes() {
//!             let shown: i64 = cluster.query(node, "hits", "front page", "show", &())?;
//!             if !(self.surely..=self.surely + self.perhaps).contains(&shown) {
//!                 return Err(format!("node {node} shows {shown}, answered were {}", self.surely));
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! app::check(1..4, |simulation| simulation.nodes(3).run(Hits::default()));
//! ```
//!
//! What is to happen may be said step by step, too: see [`TestCluster`].
//!
//! Clients call functions, whichever node they ask or on a certain one, open streams of them ([`Ask::stream`]), and update, delete and
//! read entities without any. Functions call and open what they like.
//!
//! Not here: how any of it is carried out (`crate::world`).
//! Contract: equal seeds, equal builds, equal applications: equal trace hashes. A function may go by its entity, its argument
//! and its context, and by nothing else; what it remembers besides is its node's, and forgotten at that node's next start.

mod ask;
mod by_hand;
mod simulation;
mod stream;

use std::collections::BTreeMap;

use anabranch::Function;

use crate::net::NodeIx;
pub use crate::world::Cluster;
pub use ask::{Answered, Ask, Client, Made};
pub(crate) use ask::{Direct, What, call, message};
pub use by_hand::{Begun, Opened, TestCluster};
pub use simulation::{CallCounts, Outcome, Simulation, check, find};
pub use stream::Replied;
pub(crate) use stream::Streamed;

/// What is simulated: functions, clients, and what must hold. See the module's front page for a whole one.
pub trait Application {
    /// The functions of one run of a node: made anew whenever a node starts. Schedules are looked after where
    /// [`anabranch::schedules`] is among them, changes where one of them is told of any.
    fn functions(&self) -> Vec<Function>;

    /// The same at a certain node, where not all nodes have all of them: of kinds that are among [`Application::functions`].
    fn functions_at(&self, node: NodeIx) -> Vec<Function> {
        let _ = node;
        self.functions()
    }

    /// What a client asks for next: it has had the answer to what it asked before. `None`: it asks nothing more.
    fn next(&mut self, client: &mut Client) -> Option<Ask>;

    /// A client has its answer.
    ///
    /// # Errors
    /// What was broken by it.
    fn on_answer(&mut self, answered: &Answered, cluster: &Cluster<'_>) -> Result<(), String>;

    /// A client has taken a reply of a stream. Its [answer](Application::on_answer) comes when the stream has ended.
    ///
    /// # Errors
    /// What was broken by it.
    fn on_reply(&mut self, replied: &Replied) -> Result<(), String> {
        let _ = replied;
        Ok(())
    }

    /// All was healed, everything was answered, and all nodes agree: what must still come of its own accord before it is over,
    /// if anything must: what schedules and changes call for, above all. Asked again and again, until nothing is awaited.
    ///
    /// All of it, the nodes' agreement and this, must come within 180 virtual seconds after all was healed, or the run has failed. An
    /// [order](anabranch::Order) gives each of its calls 60 s unless it says otherwise, and only then is one whose answer was lost
    /// made again: one that is lost fits into that, and two in a row do not. Orders with a shorter
    /// [timeout](anabranch::Order::timeout) settle sooner.
    fn awaits(&mut self, cluster: &Cluster<'_>) -> Option<String> {
        let _ = cluster;
        None
    }

    /// How often there was what its runs are about: what never happens in a thousand seeds was not tried.
    fn marks(&self) -> BTreeMap<&'static str, u64> {
        BTreeMap::new()
    }

    /// All was healed, everything was answered, nothing is awaited, and all nodes agree.
    ///
    /// # Errors
    /// What is not as it must be.
    fn at_rest(&mut self, cluster: &Cluster<'_>) -> Result<(), String>;
}
