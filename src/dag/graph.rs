//! Drawings of a room's graph of events, because people would rather look: DOT and SVG.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
};

use petgraph::{
    Direction,
    algo::toposort,
    graph::{DiGraph, NodeIndex},
    visit::EdgeRef,
};

use super::pdu::Pdu;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Part of the room.
    Accepted,
    /// Kept, and not shown.
    SoftFailed,
    /// Forbidden.
    Rejected,
}

/// An event to draw.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// Its id.
    pub event_id: String,
    /// What to write on it, one line each.
    pub lines: Vec<String>,
    /// The events before it. Those that are not drawn are left out.
    pub prev_events: Vec<String>,
    /// Its depth, which orders it where the graph does not.
    pub depth: u64,
    /// What became of it.
    pub mark: Mark,
    /// Whether it is a forward extremity.
    pub is_head: bool,
}

impl Vertex {
    /// The drawing of `pdu`: its type, state key and sender.
    #[must_use]
    pub fn of(pdu: &Pdu, mark: Mark, is_head: bool) -> Self {
        let title = match pdu.state_key() {
            Some("") | None => pdu.event_type().to_string(),
            Some(key) => format!("{} {key}", pdu.event_type()),
        };
        let kind = match (pdu.membership(), pdu.state_key()) {
            (Some(membership), _) => membership.as_str(),
            (None, Some(_)) => "state",
            (None, None) => "message",
        };
        Self {
            event_id: pdu.event_id().to_string(),
            lines: vec![title, pdu.sender().to_string(), format!("{kind}, depth {}", pdu.depth())],
            prev_events: pdu.prev_events().iter().map(ToString::to_string).collect(),
            depth: pdu.depth(),
            mark,
            is_head,
        }
    }

    fn fill(&self) -> &'static str {
        match self.mark {
            Mark::Accepted if self.is_head => "#d7f0d8",
            Mark::Accepted => "#eef3fb",
            Mark::SoftFailed => "#fdf0cf",
            Mark::Rejected => "#f9d9d6",
        }
    }

    fn dashes(&self) -> &'static str {
        match self.mark {
            Mark::Accepted => "none",
            Mark::SoftFailed => "6 3",
            Mark::Rejected => "2 2",
        }
    }

    fn caption(&self) -> Vec<String> {
        let mut lines = self.lines.clone();
        let mark = match self.mark {
            Mark::Accepted => None,
            Mark::SoftFailed => Some("soft-failed"),
            Mark::Rejected => Some("rejected"),
        };
        let marks: Vec<&str> = mark.into_iter().chain(self.is_head.then_some("extremity")).collect();
        if !marks.is_empty() {
            lines.push(marks.join(", "));
        }
        lines
    }
}

/// The graph in the language of Graphviz, oldest event on top.
#[must_use]
pub fn dot(vertices: &[Vertex]) -> String {
    let mut out = String::from(
        "digraph room {\n  rankdir=BT;\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n",
    );
    let drawn: HashMap<&str, ()> = vertices.iter().map(|vertex| (vertex.event_id.as_str(), ())).collect();
    for vertex in vertices {
        let label: Vec<String> = vertex.caption().iter().map(|line| escape_dot(line)).collect();
        let style = if vertex.mark == Mark::Accepted { "filled" } else { "filled,dashed" };
        let width = if vertex.is_head { 3 } else { 1 };
        let _ = writeln!(
            out,
            "  \"{}\" [label=\"{}\", fillcolor=\"{}\", style=\"{style}\", penwidth={width}];",
            escape_dot(&vertex.event_id),
            label.join("\\n"),
            vertex.fill(),
        );
    }
    for vertex in vertices {
        for prev in vertex.prev_events.iter().filter(|prev| drawn.contains_key(prev.as_str())) {
            let _ = writeln!(out, "  \"{}\" -> \"{}\";", escape_dot(&vertex.event_id), escape_dot(prev));
        }
    }
    out.push_str("}\n");
    out
}

/// The graph as a picture, oldest event on top.
#[must_use]
pub fn svg(vertices: &[Vertex]) -> String {
    let layout = Layout::of(vertices);
    let (width, height) = layout.size();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\" style=\"background:#fff\">\n\
         <defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" \
         markerHeight=\"8\" orient=\"auto-start-reverse\"><path d=\"M0 0 8 4 0 8z\" fill=\"#667\"/></marker></defs>\n"
    );
    for edge in layout.graph.edge_references() {
        let (from, to) = (layout.place(edge.source()), layout.place(edge.target()));
        // From the later event up to the earlier one.
        let (x1, y1, x2, y2) = (from.0 + BOX_WIDTH / 2, from.1, to.0 + BOX_WIDTH / 2, to.1 + BOX_HEIGHT);
        let bend = ((y1 - y2) / 2).max(8);
        let _ = writeln!(
            out,
            "<path d=\"M{x1} {y1}C{x1} {} {x2} {} {x2} {y2}\" fill=\"none\" stroke=\"#667\" marker-end=\"url(#arrow)\"/>",
            y1 - bend,
            y2 + bend,
        );
    }
    for index in layout.graph.node_indices() {
        draw_box(&mut out, layout.graph[index], layout.place(index));
    }
    out.push_str("</svg>\n");
    out
}

const BOX_WIDTH: i64 = 230;
const BOX_HEIGHT: i64 = 66;
const GAP_X: i64 = 24;
const GAP_Y: i64 = 40;
const MARGIN: i64 = 16;
const LINE_CHARS_MAX: usize = 36;
const BOLD_CHARS_MAX: usize = 30;
const SWEEPS: usize = 4;

fn draw_box(out: &mut String, vertex: &Vertex, (x, y): (i64, i64)) {
    let stroke = if vertex.is_head { 3 } else { 1 };
    let _ = writeln!(
        out,
        "<g><title>{}\n{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"6\" \
         fill=\"{}\" stroke=\"#334\" stroke-width=\"{stroke}\" stroke-dasharray=\"{}\"/>",
        escape_xml(&vertex.event_id),
        escape_xml(vertex.lines.first().map_or("", String::as_str)),
        vertex.fill(),
        vertex.dashes(),
    );
    for (line, text) in (0_i64..4).zip(vertex.caption()) {
        let (weight, max) = match line {
            0 => (" font-weight=\"bold\"", BOLD_CHARS_MAX),
            _ => ("", LINE_CHARS_MAX),
        };
        let short: String = match text.chars().count() > max {
            true => text.chars().take(max - 1).chain(['…']).collect(),
            false => text,
        };
        let _ = writeln!(
            out,
            "<text x=\"{}\" y=\"{}\"{weight}>{}</text>",
            x + 8,
            y + 15 + line * 15,
            escape_xml(&short)
        );
    }
    out.push_str("</g>\n");
}

/// Events in rows: each one row below the lowest of those it follows.
struct Layout<'a> {
    graph: DiGraph<&'a Vertex, ()>,
    /// Row, and place in the row.
    places: HashMap<NodeIndex, (usize, usize)>,
    rows: Vec<Vec<NodeIndex>>,
}

impl<'a> Layout<'a> {
    fn of(vertices: &'a [Vertex]) -> Self {
        let mut graph = DiGraph::new();
        let nodes: BTreeMap<&str, NodeIndex> =
            vertices.iter().map(|vertex| (vertex.event_id.as_str(), graph.add_node(vertex))).collect();
        for vertex in vertices {
            for prev in &vertex.prev_events {
                if let (Some(from), Some(to)) =
                    (nodes.get(vertex.event_id.as_str()), nodes.get(prev.as_str()))
                {
                    graph.update_edge(*from, *to, ());
                }
            }
        }
        let mut layout = Self { rows: rows(&graph), places: HashMap::new(), graph };
        layout.note_places();
        for _ in 0..SWEEPS {
            layout.untangle(Direction::Outgoing);
            layout.untangle(Direction::Incoming);
        }
        layout
    }

    fn note_places(&mut self) {
        for (y, row) in self.rows.iter().enumerate() {
            self.places.extend(row.iter().enumerate().map(|(x, node)| (*node, (y, x))));
        }
    }

    /// Orders each row by where its neighbours stand, so that fewer edges cross.
    fn untangle(&mut self, direction: Direction) {
        for y in 0..self.rows.len() {
            let mut row = std::mem::take(&mut self.rows[y]);
            row.sort_by_key(|node| {
                let neighbours: Vec<usize> = self
                    .graph
                    .neighbors_directed(*node, direction)
                    .map(|other| self.places[&other].1)
                    .collect();
                match neighbours.len() {
                    0 => self.places[node].1 * 1_000,
                    count => neighbours.iter().sum::<usize>() * 1_000 / count,
                }
            });
            self.rows[y] = row;
            let renewed: Vec<_> = self.rows[y].iter().copied().enumerate().collect();
            self.places.extend(renewed.into_iter().map(|(x, node)| (node, (y, x))));
        }
    }

    fn place(&self, node: NodeIndex) -> (i64, i64) {
        let (y, x) = self.places[&node];
        let scale = |count: usize, step: i64| i64::try_from(count).unwrap_or(0) * step;
        let spare = scale(self.widest() - self.rows[y].len(), BOX_WIDTH + GAP_X) / 2;
        (MARGIN + spare + scale(x, BOX_WIDTH + GAP_X), MARGIN + scale(y, BOX_HEIGHT + GAP_Y))
    }

    fn widest(&self) -> usize {
        self.rows.iter().map(Vec::len).max().unwrap_or(0)
    }

    fn size(&self) -> (i64, i64) {
        let span = |count: usize, one: i64, gap: i64| {
            let count = i64::try_from(count.max(1)).unwrap_or(1);
            2 * MARGIN + count * one + (count - 1) * gap
        };
        (span(self.widest(), BOX_WIDTH, GAP_X), span(self.rows.len(), BOX_HEIGHT, GAP_Y))
    }
}

fn rows(graph: &DiGraph<&Vertex, ()>) -> Vec<Vec<NodeIndex>> {
    // Events cannot form a circle; if what is handed in does, depth has to do.
    let Ok(order) = toposort(graph, None) else {
        let mut by_depth: BTreeMap<u64, Vec<NodeIndex>> = BTreeMap::new();
        for node in graph.node_indices() {
            by_depth.entry(graph[node].depth).or_default().push(node);
        }
        return by_depth.into_values().collect();
    };
    let mut row_of: HashMap<NodeIndex, usize> = HashMap::new();
    let mut rows: Vec<Vec<NodeIndex>> = Vec::new();
    for node in order.into_iter().rev() {
        let row = graph.neighbors(node).filter_map(|prev| row_of.get(&prev)).max().map_or(0, |row| row + 1);
        row_of.insert(node, row);
        if rows.len() <= row {
            rows.resize_with(row + 1, Vec::new);
        }
        rows[row].push(node);
    }
    for row in &mut rows {
        row.sort_by(|a, b| {
            let key = |node: &NodeIndex| (graph[*node].depth, &graph[*node].event_id);
            key(a).cmp(&key(b))
        });
    }
    rows
}

fn escape_dot(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ")
}

fn escape_xml(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    escaped.replace(|c: char| c.is_control(), "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Mark, Vertex, dot, svg};
    use crate::dag::world::World;

    fn fork() -> Vec<Vertex> {
        let mut world = World::new("12");
        world.join("bob:b.org");
        let base: Vec<_> = world.events.values().cloned().collect();
        let left = world.build("alice", "m.room.topic", Some(""), json!({"topic": "<&>"})).unwrap();
        let right = world.build("bob:b.org", "m.room.message", None, json!({"body": "hi"})).unwrap();
        let bad = world.build("bob:b.org", "m.room.name", Some("\"<k>"), json!({"name": "no"})).unwrap();
        world.heads = vec![left.clone(), right.clone()];
        let head = world.build("alice", "m.room.message", None, json!({"body": "both"})).unwrap();
        let mut vertices: Vec<_> = base.iter().map(|pdu| Vertex::of(pdu, Mark::Accepted, false)).collect();
        vertices.push(Vertex::of(&left, Mark::Accepted, false));
        vertices.push(Vertex::of(&right, Mark::SoftFailed, false));
        vertices.push(Vertex::of(&bad, Mark::Rejected, false));
        vertices.push(Vertex::of(&head, Mark::Accepted, true));
        vertices
    }

    #[test]
    fn drawings_show_every_event_and_edge() {
        let vertices = fork();
        let edges: usize = vertices.iter().map(|vertex| vertex.prev_events.len()).sum();
        let dot = dot(&vertices);
        assert_eq!(dot.matches(" -> ").count(), edges);
        assert_eq!(dot.matches("[label=").count(), vertices.len());
        let svg = svg(&vertices);
        assert_eq!(svg.matches("<rect").count(), vertices.len());
        assert_eq!(svg.matches("marker-end").count(), edges);
        for word in ["soft-failed", "rejected", "extremity"] {
            assert_eq!(dot.matches(word).count(), 1, "{word}");
            assert_eq!(svg.matches(word).count(), 1, "{word}");
        }
        assert!(svg.contains("&quot;&lt;k&gt;") && !svg.contains("<k>"));
        assert!(dot.contains("\\\"<k>"));
    }

    #[test]
    fn the_same_events_make_the_same_drawing() {
        let mut vertices = fork();
        let first = svg(&vertices);
        assert_eq!(svg(&vertices), first);
        vertices.clear();
        assert!(svg(&vertices).ends_with("</svg>\n"));
    }

    #[test]
    fn a_circle_is_drawn_all_the_same() {
        let vertex = |id: &str, prev: &str, depth| Vertex {
            event_id: String::from(id),
            lines: vec![String::from(id)],
            prev_events: vec![String::from(prev)],
            depth,
            mark: Mark::Accepted,
            is_head: false,
        };
        let svg = svg(&[vertex("a", "b", 1), vertex("b", "a", 2), vertex("c", "absent", 3)]);
        assert_eq!(svg.matches("<rect").count(), 3);
    }
}
