//! The API as programs use it.

use anyhow::Result;
use kube::{Client, Config, config::Kubeconfig};
use tokio::runtime::Builder;

use super::{Identity, Kube};

impl Kube {
    /// Runs a job with a user's client, on the host of the control plane. kubectl takes a tenth of
    /// a second per call: this is for many calls, or several at once.
    pub fn client<T: Send>(
        &self,
        identity: Identity<'_>,
        job: impl AsyncFnOnce(Client) -> Result<T> + Send,
    ) -> Result<T> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig(identity)?)?;
        // Sockets belong to the host whose thread opens them, and this runtime has only one thread.
        self.host.run(|| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let options = Default::default();
                let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
                job(Client::try_from(config)?).await
            })
        })
    }
}
