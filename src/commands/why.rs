//! `why`: why did a container die?

use std::path::Path;

use anyhow::{Context, bail};

use crate::cli::{Format, Global, WhyArgs};
use crate::exit::ExitStatus;
use crate::receipt::Receipt;
use crate::report::why::answer;
use crate::runtime::{Store, receipts};

/// Prints the receipt of a container: of one that is there, as it stands now.
#[inline(never)]
pub fn run(global: &Global, args: &WhyArgs) -> anyhow::Result<ExitStatus> {
    let receipt = find(&Store::open(global)?, &args.container)?;
    super::print(&match args.format {
        Format::Text => answer(&receipt),
        Format::Json => serde_json::to_string(&receipt)? + "\n",
    })?;
    Ok(ExitStatus::SUCCESS)
}

fn find(store: &Store, asked: &str) -> anyhow::Result<Receipt> {
    if asked.contains('/') || asked == "." {
        return in_bundle(Path::new(asked));
    }
    match store.load(asked) {
        Ok(container) => return Ok(receipts::of(&container)?),
        Err(error) if error.is_absence() => {}
        Err(error) => return Err(error).with_context(|| format!("cannot load container '{asked}'")),
    }
    match store.kept_receipt(asked)? {
        Some(receipt) => Ok(receipt),
        None if Path::new(asked).is_dir() => in_bundle(Path::new(asked)),
        None => bail!(
            "no container '{asked}', and no receipt of one: it never was, or too many were deleted since"
        ),
    }
}

fn in_bundle(bundle: &Path) -> anyhow::Result<Receipt> {
    match receipts::read(bundle)? {
        Some(receipt) => Ok(receipt),
        None if bundle.is_dir() => {
            bail!(
                "no {} in '{}': no container of this bundle was deleted by rt",
                receipts::FILE,
                bundle.display()
            )
        }
        None => bail!("no bundle '{}'", bundle.display()),
    }
}
