//! Users of the API server, and their credentials.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result};

use super::Kube;
use crate::lab::Host;

/// The API server's port.
pub(super) const PORT: u16 = 6443;

/// Where a pod finds the credentials of its ServiceAccount. `/run` belongs to the host.
const POD: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// A user of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// The administrator, who may do everything.
    Admin,
    /// A user in a group, by certificate.
    User(&'a str, &'a str),
    /// A ServiceAccount by namespace and name, by token: it has to exist.
    ServiceAccount(&'a str, &'a str),
}

impl Kube {
    /// A user's kubeconfig, for use on any host.
    pub fn kubeconfig(&self, identity: Identity<'_>) -> Result<PathBuf> {
        let (name, credentials) = match identity {
            Identity::Admin => return Ok(self.admin()),
            Identity::User(user, group) => {
                let name = format!("user-{user}-{group}");
                let credentials = self.by_certificate(&name, user, group)?;
                (name, credentials)
            }
            Identity::ServiceAccount(namespace, account) => {
                let name = format!("account-{namespace}-{account}");
                let token = self.token(namespace, account)?;
                (name, format!("token: {token}"))
            }
        };
        self.write_kubeconfig(&name, &credentials)
    }

    /// Where the API server is.
    pub fn address(&self) -> SocketAddr {
        (self.host.eth0.ipv4, PORT).into()
    }

    /// Gives programs on a host what a pod of a ServiceAccount finds: token, namespace and
    /// authority. Returns the environment variables of such a pod.
    pub fn make_pod(
        &self,
        host: &Host,
        namespace: &str,
        account: &str,
    ) -> Result<[(&str, String); 2]> {
        let token = self.token(namespace, account)?;
        let authority = fs::read(self.authority.certificate())?;
        host.run(|| {
            fs::create_dir_all(POD)?;
            fs::write(format!("{POD}/token"), token)?;
            fs::write(format!("{POD}/namespace"), namespace)?;
            fs::write(format!("{POD}/ca.crt"), authority)
        })
        .with_context(|| format!("making {POD} on {}", host.name()))?;
        let address = self.address();
        Ok([
            ("KUBERNETES_SERVICE_HOST", address.ip().to_string()),
            ("KUBERNETES_SERVICE_PORT", address.port().to_string()),
        ])
    }

    pub(super) fn admin(&self) -> PathBuf {
        self.files.path().join("admin.kubeconfig")
    }

    /// Writes the administrator's kubeconfig.
    pub(super) fn write_admin(&self) -> Result<()> {
        let credentials = self.by_certificate("admin", "admin", "system:masters")?;
        self.write_kubeconfig("admin", &credentials)?;
        Ok(())
    }

    /// Has the API server sign a token, as the kubelet does for a pod.
    pub(super) fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let token = self
            .kubectl(["create", "token", account, "--namespace", namespace])
            .unheard()
            .run()?;
        Ok(token.trim().to_owned())
    }

    fn by_certificate(&self, file: &str, user: &str, group: &str) -> Result<String> {
        let pair = self.authority.client(file, user, group)?;
        Ok(format!(
            "client-certificate: {}, client-key: {}",
            pair.public.display(),
            pair.key.display()
        ))
    }

    fn write_kubeconfig(&self, name: &str, credentials: &str) -> Result<PathBuf> {
        let text = format!(
            "\
apiVersion: v1
kind: Config
clusters: [{{ name: lab, cluster: {{ server: \"https://{}\", certificate-authority: {} }} }}]
users: [{{ name: user, user: {{ {credentials} }} }}]
contexts: [{{ name: lab, context: {{ cluster: lab, user: user }} }}]
current-context: lab
",
            self.address(),
            self.authority.certificate().display(),
        );
        let file = self.files.path().join(format!("{name}.kubeconfig"));
        fs::write(&file, text).with_context(|| file.display().to_string())?;
        Ok(file)
    }
}
