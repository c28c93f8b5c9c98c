"""What the server of a run is to learn of each party, where the settings leave it open.

Real parties need not trust the server with their statistics: their sums are masked
unless the settings say otherwise. A simulation has everything in one place anyway.
"""

from server.app import choose_methods
from server.config import RunConfig
from sims.runs.engines import DEPLOYMENT, has_own_nodes


def settle_privacy(config: RunConfig, engine: str) -> RunConfig:
    """Choose whether the run sums under masks.

    Real nodes do if all merges of the run need sums alone; with too few parties for
    that the run is then refused, and not made without masks in silence.

    Args:
        config: The run's settings.
        engine: What it runs on.
    """
    if config.privacy.secure_sum is not None:
        return config
    real = engine == DEPLOYMENT or has_own_nodes(engine)
    secure = real and all(method.sums for method in choose_methods(config))
    chosen = config.privacy.model_copy(update={"secure_sum": secure})
    return config.model_copy(update={"privacy": chosen})


def check_privacy(config: RunConfig) -> None:
    """Refuse masks where they cannot be; see `server.app.choose_methods`."""
    if config.privacy.secure_sum:
        choose_methods(config)
