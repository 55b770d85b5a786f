//! Children that are started again when they end (or put to sleep again), and when.

use super::protocol::SpawnOrder;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

const MS: u64 = 1_000_000;
const FIRST_WAIT_NS: u64 = 100 * MS;
const LONGEST_WAIT_NS: u64 = 5_000 * MS;
/// Who lived this long did not fail at its start: the next wait is a short one again.
const WELL_AFTER_NS: u64 = 10_000 * MS;

struct Restart {
    order: Rc<SpawnOrder>,
    wait_ns: u64,
    due_ns: Option<u64>,
}

/// Orders of the children that are to live on.
#[derive(Default)]
pub struct Restarts {
    by_id: BTreeMap<String, Restart>,
    /// Who is due, soonest first: there may be thousands, of which few are.
    due: BTreeSet<(u64, String)>,
}

impl Restarts {
    pub fn insert(&mut self, order: Rc<SpawnOrder>) {
        self.set_due(&order.id, None);
        let restart = Restart { wait_ns: FIRST_WAIT_NS, due_ns: None, order };
        self.by_id.insert(restart.order.id.clone(), restart);
    }

    /// From now on this child ends for good; whether it would have been started again.
    pub fn remove(&mut self, id: &str) -> bool {
        self.set_due(id, None);
        self.by_id.remove(id).is_some()
    }

    /// Notes that a child ended (or could not be started) after it lived for `lived_ns`.
    pub fn ended(&mut self, id: &str, lived_ns: u64, now_ns: u64) {
        let Some(restart) = self.by_id.get_mut(id) else { return };
        if lived_ns >= WELL_AFTER_NS {
            restart.wait_ns = FIRST_WAIT_NS;
        }
        let due_ns = now_ns + restart.wait_ns;
        restart.wait_ns = (restart.wait_ns * 2).min(LONGEST_WAIT_NS);
        self.set_due(id, Some(due_ns));
    }

    /// Notes that a child ended because nobody wants it: it may sleep at once.
    pub fn rests(&mut self, id: &str, now_ns: u64) {
        let Some(restart) = self.by_id.get_mut(id) else { return };
        restart.wait_ns = FIRST_WAIT_NS;
        self.set_due(id, Some(now_ns));
    }

    /// The order of a child that is to live on.
    pub fn order(&self, id: &str) -> Option<&Rc<SpawnOrder>> {
        self.by_id.get(id).map(|restart| &restart.order)
    }

    /// When the next one is due [ns].
    pub fn next_ns(&self) -> Option<u64> {
        self.due.first().map(|(due_ns, _)| *due_ns)
    }

    /// Takes the orders that are due; each counts as running until `ended` says otherwise.
    pub fn take_due(&mut self, now_ns: u64) -> Vec<Rc<SpawnOrder>> {
        let mut orders = vec![];
        while self.next_ns().is_some_and(|due_ns| due_ns <= now_ns) {
            let restart = self.due.pop_first().and_then(|(_, id)| self.by_id.get_mut(&id));
            orders.extend(restart.map(|restart| {
                restart.due_ns = None;
                Rc::clone(&restart.order)
            }));
        }
        orders
    }

    fn set_due(&mut self, id: &str, due_ns: Option<u64>) {
        let Some(restart) = self.by_id.get_mut(id) else { return };
        if let Some(before_ns) = restart.due_ns {
            self.due.remove(&(before_ns, id.to_owned()));
        }
        restart.due_ns = due_ns;
        self.due.extend(due_ns.map(|due_ns| (due_ns, id.to_owned())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Restarts {
        let mut restarts = Restarts::default();
        let text = r#"{"id":"x","argv":["/x"],"restart":true}"#;
        restarts.insert(Rc::new(serde_json::from_str(text).unwrap()));
        restarts
    }

    /// The waits [ms] between ends that follow each other, after lives of these lengths [s].
    fn waits(lives_s: &[u64]) -> Vec<u64> {
        let mut restarts = one();
        let wait = |lived_s: &u64| {
            restarts.ended("x", lived_s * 1_000 * MS, 7);
            let due = restarts.next_ns().unwrap();
            assert!(restarts.take_due(due - 1).is_empty());
            assert_eq!(restarts.take_due(due).len(), 1);
            (due - 7) / MS
        };
        lives_s.iter().map(wait).collect()
    }

    #[test]
    fn waits_longer_each_time_up_to_a_bound() {
        assert_eq!(waits(&[0; 8]), [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn a_long_life_shortens_the_wait() {
        assert_eq!(waits(&[0, 0, 10, 0]), [100, 200, 100, 200]);
    }

    #[test]
    fn a_new_order_of_the_same_id_is_not_due() {
        let mut restarts = one();
        restarts.ended("x", 0, 0);
        restarts.insert(Rc::clone(restarts.order("x").unwrap()));
        assert_eq!(restarts.next_ns(), None);
    }

    #[test]
    fn runs_and_the_removed_are_not_due() {
        let mut restarts = one();
        assert_eq!(restarts.next_ns(), None);
        restarts.ended("x", 0, 0);
        assert!(restarts.remove("x"));
        assert!(!restarts.remove("x"));
        restarts.ended("x", 0, 0);
        assert!(restarts.take_due(u64::MAX).is_empty());
    }
}
