//! Which members a node looks at.

use super::*;

#[test]
fn a_node_looks_at_no_member_about_which_there_is_nothing_to_do() {
    let mut lab = Lab::new(20);
    lab.run(Duration::from_secs(5));
    for node in &lab.nodes {
        assert_eq!(node.agent.live().count(), 19);
        assert_eq!(node.agent.awake().count(), 0);
    }
}
