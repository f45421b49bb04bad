"""The coordinator as a Flower `ServerApp`.

In `sordino coordinator up` it runs over our link. Under `flwr run`, whose run configuration names the folder, the same
object runs over Flower's own grid.
"""

from __future__ import annotations

from contextvars import ContextVar
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from sordino_coordinator.federation import Federation
from sordino_coordinator.stock_grid import StockGrid, require_offered
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.telemetry import configure_logging
from sordino_privacy.errors import ConfigurationError

FEDERATION: ContextVar[Federation] = ContextVar("sordino_federation")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Runs rounds until as many as were asked for have completed. Raises ConfigurationError, StorageError."""
    federation = FEDERATION.get(None)
    if federation is None:
        folder = context.run_config.get("federation-folder")
        if not isinstance(folder, str):
            raise ConfigurationError(
                "the run's configuration lacks federation-folder", hint="see deploy/flower"
            )
        configure_logging(Path(folder) / "coordinator" / "events.jsonl")
        federation = Federation.open(Path(folder) / "coordinator")
        require_offered(federation.charter)
        grid = StockGrid(grid, count=federation.count_bytes)
    rounds = federation.settings.rounds
    SecureFedAvg(federation).start(grid, ArrayRecord([federation.weights()]), num_rounds=rounds)
