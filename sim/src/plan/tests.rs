use super::*;

#[test]
fn a_plan_follows_from_its_seed_and_keeps_its_promises() {
    for seed in 0..300 {
        let plan = Plan::swarm(seed, None);
        assert_eq!(plan.to_string(), Plan::swarm(seed, None).to_string());
        assert!((3..=9).contains(&plan.nodes));
        assert!(plan.faults.is_sorted_by_key(|(at, _)| *at));
        assert!(
            plan.rest.len() < plan.nodes * (plan.nodes - 1) / 2,
            "incomplete: {:?}",
            plan.rest
        );
        let mut reached = vec![false; plan.nodes];
        reached[0] = true;
        for _ in 0..plan.nodes {
            for &(a, b) in &plan.rest {
                let either = reached[a] || reached[b];
                (reached[a], reached[b]) = (either, either);
            }
        }
        assert!(reached.iter().all(|&r| r), "connected: {:?}", plan.rest);
        assert!(!plan.load.kinds.is_empty());
    }
}

#[test]
fn every_family_is_out_in_about_half_of_the_seeds() {
    for family in Family::ALL {
        let with = (0..200)
            .filter(|&seed| Plan::swarm(seed, None).families.contains(&family))
            .count();
        assert!((60..140).contains(&with), "{family:?}: {with} of 200");
    }
}
