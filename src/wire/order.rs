//! In which order things come that need one another: pure, for definitions that are declared and for those
//! that are there.

use std::collections::HashMap;

/// Something with a name, and what has to come before it. `@GROUP` means all of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node<'a> {
    pub name: &'a str,
    pub group: Option<&'a str>,
    pub needs: Vec<&'a str>,
}

/// How far a walk has come with a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    Open,
    Done,
}

/// The places of the nodes, each behind what it needs; else in their own order. What is needed and not there
/// is passed over. An error is a circle: names, the first one again at the end.
pub fn order(nodes: &[Node<'_>]) -> Result<Vec<usize>, Vec<String>> {
    let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, node) in nodes.iter().enumerate() {
        by_name.entry(node.name.to_owned()).or_default().push(at);
        if let Some(group) = node.group {
            by_name.entry(format!("@{group}")).or_default().push(at);
        }
    }
    let (mut marks, mut done) = (vec![Mark::New; nodes.len()], Vec::with_capacity(nodes.len()));
    for first in 0..nodes.len() {
        // A walk with a stack of its own: how deep needs go is not ours to say.
        let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
        let mut next = Some(first);
        loop {
            if let Some(at) = next.take() {
                match marks[at] {
                    Mark::Done => {}
                    Mark::Open => return Err(circle(nodes, &path, at)),
                    Mark::New => {
                        marks[at] = Mark::Open;
                        let found = nodes[at].needs.iter().filter_map(|need| by_name.get(*need)).flatten();
                        // One of a group that needs its group needs the others.
                        let mut needs: Vec<_> =
                            found.copied().filter(|need| *need != at || is_named(&nodes[at])).collect();
                        needs.reverse();
                        path.push((at, needs));
                    }
                }
            }
            let Some((at, needs)) = path.last_mut() else { break };
            match needs.pop() {
                Some(need) => next = Some(need),
                None => {
                    marks[*at] = Mark::Done;
                    done.push(*at);
                    path.pop();
                }
            }
        }
    }
    Ok(done)
}

/// Whether it needs itself by its own name.
fn is_named(node: &Node<'_>) -> bool {
    node.needs.contains(&node.name)
}

fn circle(nodes: &[Node<'_>], path: &[(usize, Vec<usize>)], at: usize) -> Vec<String> {
    let begin = path.iter().position(|(on, _)| *on == at).unwrap_or(0);
    let name = |at: usize| nodes[at].name.to_owned();
    path[begin..].iter().map(|(on, _)| name(*on)).chain([name(at)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node<'a>(name: &'a str, needs: &[&'a str]) -> Node<'a> {
        Node { name, group: None, needs: needs.to_vec() }
    }

    fn names(nodes: &[Node<'_>]) -> Result<String, String> {
        let order = order(nodes).map_err(|circle| circle.join(" -> "))?;
        Ok(order.into_iter().map(|at| nodes[at].name).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_is_needed_comes_first_and_the_rest_stays_where_it_is() {
        let nodes =
            [node("web", &["db", "cache"]), node("a", &[]), node("cache", &["db"]), node("db", &["x"])];
        assert_eq!(names(&nodes), Ok("db cache web a".into()));
        let mut nodes = vec![node("web", &["@data"]), node("db", &[]), node("cache", &["@data"])];
        nodes[1].group = Some("data");
        nodes[2].group = Some("data");
        assert_eq!(names(&nodes), Ok("db cache web".into()));
    }

    #[test]
    fn b20_a_circle_is_named_whole() {
        let nodes = [node("x", &["a"]), node("a", &["b"]), node("b", &["c"]), node("c", &["a"])];
        assert_eq!(names(&nodes), Err("a -> b -> c -> a".into()));
        assert_eq!(names(&[node("a", &["a"])]), Err("a -> a".into()));
    }

    #[test]
    fn b20_a_long_chain_takes_no_stack() {
        let all: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
        let nodes: Vec<_> = (0..all.len())
            .map(|n| node(&all[n], &all.get(n + 1).map(|need| vec![need.as_str()]).unwrap_or_default()))
            .collect();
        assert_eq!(order(&nodes).unwrap()[0], all.len() - 1);
    }
}
