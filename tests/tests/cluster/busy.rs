//! An overloaded machine.

use std::time::Duration;

use speaker_tests::{agent::Mode, cluster::Cluster, lab, load::keep_busy};

use crate::{VIP, VIPS, asked};

#[test]
fn no_owner_is_declared_dead_while_every_core_is_busy() {
    lab::test(|lab| {
        let mut cluster = Cluster::started(lab, 3, Mode::Native, &[&VIPS])?;
        let owner = cluster.owner(VIP)?;
        let epoch = cluster.nodes[owner].explain(VIP)?.epoch;
        let (asked, ()) = asked(&mut cluster, VIP, |_| keep_busy(Duration::from_secs(30)))?;
        assert_eq!(asked.answered_by(), [cluster.mac(owner)]);
        assert_eq!(cluster.owner(VIP)?, owner);
        assert_eq!(cluster.nodes[owner].explain(VIP)?.epoch, epoch);
        Ok(())
    });
}
