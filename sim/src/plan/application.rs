//! Plans for clusters that run somebody's application: shorter, and nothing is asked but by the application.

use super::{CHAOS_US, Family, Load, Plan, Settings, faults, swarm_clock, swarm_net, swarm_sync};
use crate::queue::Micros;
use crate::rng::Rng;

impl Family {
    /// Whether it takes from a disk what was synced to it.
    pub fn is_lossy(self) -> bool {
        matches!(self, Family::LostDisk | Family::Backup | Family::Rot)
    }
}

impl Plan {
    /// The plan of a seed for an application, with faults of these families at most, in the first so many microseconds.
    pub fn of_application(seed: u64, nodes: Option<usize>, allowed: &[Family], chaos_us: Micros) -> Plan {
        let mut rng = Rng::stream(seed, "plan-application", 0, 0);
        let nodes = nodes.unwrap_or_else(|| *rng.pick(&[3, 3, 3, 4, 5]));
        let families: Vec<Family> = Family::ALL
            .into_iter()
            .filter(|family| allowed.contains(family))
            .filter(|&family| Rng::stream(seed, "family", family as u64, 0).chance(0.5))
            .collect();
        let has = |family| families.contains(&family);
        // As many faults as there would be in all the time of a swarm, so much closer together.
        let sooner = |at: Micros| (u128::from(at) * u128::from(chaos_us) / u128::from(CHAOS_US)) as Micros;
        let mut faults = faults::swarm(seed, nodes, &has);
        faults.iter_mut().for_each(|(at, _)| *at = sooner(*at));
        Plan {
            nodes,
            shards: *rng.pick(&[1, 1, 2, 4]),
            discovered: Rng::stream(seed, "discovered", 0, 0).chance(0.2),
            chaos_us,
            net: swarm_net(seed, &has),
            sync: swarm_sync(seed, &has),
            clocks: (0..nodes).map(|node| swarm_clock(seed, node, &has)).collect(),
            load: Load {
                clients: 0,
                kinds: Vec::new(),
                ..Load::calm(nodes)
            },
            settings: Settings::swarm(seed, has(Family::Limits), has(Family::Snapshots)),
            faults,
            // What was called for while nobody could be reached may need anybody.
            rest: (0..nodes)
                .flat_map(|a| (a + 1..nodes).map(move |b| (a, b)))
                .collect(),
            seed,
            families,
        }
    }
}
