//! Names that point to names: who reaches whom, what goes round in circles.

use std::collections::{BTreeMap, BTreeSet};

/// A directed graph over names. Edges to names that are not in it are ignored.
#[derive(Debug, Default)]
pub(crate) struct Graph<'a> {
    edges: BTreeMap<&'a str, BTreeSet<&'a str>>,
}

impl<'a> Graph<'a> {
    /// The graph of `nodes` with `edges` from the first to the second name.
    pub(crate) fn new(
        nodes: impl IntoIterator<Item = &'a str>,
        edges: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut graph = Graph {
            edges: nodes
                .into_iter()
                .map(|node| (node, BTreeSet::new()))
                .collect(),
        };
        for (from, to) in edges {
            if graph.edges.contains_key(to)
                && let Some(next) = graph.edges.get_mut(from)
            {
                next.insert(to);
            }
        }
        graph
    }

    fn next(&self, node: &str) -> impl Iterator<Item = &'a str> + '_ {
        self.edges.get(node).into_iter().flatten().copied()
    }

    /// All names that can be reached from `starts` over the edges, the starts included.
    pub(crate) fn reach(&self, starts: impl IntoIterator<Item = &'a str>) -> BTreeSet<&'a str> {
        let mut reached: BTreeSet<&str> = starts.into_iter().collect();
        let mut open: Vec<&str> = reached.iter().copied().collect();
        while let Some(node) = open.pop() {
            for next in self.next(node) {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached
    }

    /// A shortest path from `from` to `to`, both included; from a name to itself it is that
    /// name alone.
    pub(crate) fn path(&self, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut open = std::collections::VecDeque::from([from]);
        while let Some(node) = open.pop_front() {
            if node == to {
                let mut path = vec![node];
                while let Some(before) = path.last().and_then(|last| came_from.get(last)) {
                    path.push(before);
                }
                path.reverse();
                return Some(path);
            }
            for next in self.next(node) {
                if next != from && !came_from.contains_key(next) {
                    came_from.insert(next, node);
                    open.push_back(next);
                }
            }
        }
        None
    }

    /// The strongly connected components, each after those its names point to; names sorted
    /// within a component, and components by their first name where the edges leave a choice.
    pub(crate) fn components(&self) -> Vec<Vec<&'a str>> {
        let component_of = self.component_names();
        let mut members: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut waiting_for: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (&node, &component) in &component_of {
            members.entry(component).or_default().push(node);
            let needed = waiting_for.entry(component).or_default();
            let others = self.next(node).map(|next| component_of[next]);
            needed.extend(others.filter(|other| *other != component));
        }
        let mut ordered = Vec::with_capacity(members.len());
        while let Some(ready) = waiting_for
            .iter()
            .find_map(|(component, needed)| needed.is_empty().then_some(*component))
        {
            waiting_for.remove(ready);
            for needed in waiting_for.values_mut() {
                needed.remove(ready);
            }
            ordered.extend(members.remove(ready));
        }
        ordered
    }

    /// For each name the first name, in alphabetical order, of its component.
    ///
    /// Two names are in one component when each reaches the other. Projects have hundreds of
    /// entities at most, so plain reachability is quick enough.
    fn component_names(&self) -> BTreeMap<&'a str, &'a str> {
        let reach: BTreeMap<&str, BTreeSet<&str>> = self
            .edges
            .keys()
            .map(|node| (*node, self.reach([*node])))
            .collect();
        reach
            .iter()
            .map(|(&node, reached)| {
                let first = reached.iter().find(|other| reach[*other].contains(node));
                (node, first.copied().unwrap_or(node))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&'static str, &'static str)], lonely: &[&'static str]) -> Graph<'static> {
        let nodes = edges
            .iter()
            .flat_map(|(from, to)| [*from, *to])
            .chain(lonely.iter().copied());
        Graph::new(nodes, edges.iter().copied())
    }

    #[test]
    fn components_come_after_what_they_need() {
        let graph = graph(&[("a", "z"), ("z", "m"), ("b", "m")], &["c"]);
        assert_eq!(
            graph.components(),
            [vec!["c"], vec!["m"], vec!["b"], vec!["z"], vec!["a"]]
        );
    }

    #[test]
    fn circles_are_one_component() {
        let graph = graph(
            &[("x", "y"), ("y", "w"), ("w", "x"), ("a", "w"), ("y", "z")],
            &[],
        );
        assert_eq!(
            graph.components(),
            [vec!["z"], vec!["w", "x", "y"], vec!["a"]]
        );
    }

    #[test]
    fn edges_to_strangers_are_ignored() {
        let graph = Graph::new(["a"], [("a", "b"), ("b", "a"), ("a", "a")]);
        assert_eq!(graph.components(), [vec!["a"]]);
    }

    #[test]
    fn paths_are_shortest() {
        let graph = graph(
            &[("a", "b"), ("b", "c"), ("c", "d"), ("a", "c"), ("d", "a")],
            &[],
        );
        assert_eq!(graph.path("a", "d"), Some(vec!["a", "c", "d"]));
        assert_eq!(graph.path("b", "a"), Some(vec!["b", "c", "d", "a"]));
        assert_eq!(graph.path("a", "a"), Some(vec!["a"]));
        assert_eq!(graph.path("a", "q"), None);
    }
}
