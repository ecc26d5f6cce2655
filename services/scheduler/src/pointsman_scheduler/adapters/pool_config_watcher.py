"""Has each pool's published configuration taken over when it changes."""

from pointsman_common.errors import SettingsError
from pointsman_common.pool_view import PoolView
from pointsman_common.structured_log import get_logger
from pointsman_scheduler.core.picking import Picking
from pointsman_scheduler.metrics import Metrics

log = get_logger("pool-config")


class PoolConfigWatcher:
    """What cannot be used is logged and counted once; the old configuration stays in force."""

    def __init__(self, view: PoolView, picking: Picking, metrics: Metrics) -> None:
        self._view, self._picking, self._metrics = view, picking, metrics
        self._seen: dict[str, object] = {}
        self._hashes: dict[str, str] = {}
        view.on_change(self._on_change)

    def _on_change(self, pool: str) -> None:
        record = self._view.get(pool)
        if record is None:
            self._seen.pop(pool, None)
            self._metrics.note_config(pool, self._hashes.pop(pool, ""), "")
            return
        if self._seen.get(pool) is record.config:
            return
        self._seen[pool] = record.config
        try:
            self._picking.apply_config(pool)
        except SettingsError as error:
            self._metrics.config_refused.labels(pool).inc()
            log.warning("config-refused", pool=pool, error=str(error))
        state = self._picking.pool(pool)
        if state is not None and state.config.hash != self._hashes.get(pool):
            self._metrics.note_config(pool, self._hashes.get(pool, ""), state.config.hash)
            self._hashes[pool] = state.config.hash
            log.info("config-in-force", pool=pool, config_hash=state.config.hash)
