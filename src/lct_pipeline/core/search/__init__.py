"""Search over the coefficients of a combination (LCSC), behind ask / tell / stop.

A search proposes coefficients and never evaluates them: it sees no weight and no image. LCSC (Liu
et al. 2024) gives the problem, an evolutionary search and its start from EMA profiles; all
operators and settings here are this project's own, because the authors' are not public.
"""

from lct_pipeline.core.search.base import Search
from lct_pipeline.core.search.cma_es import CMASearch
from lct_pipeline.core.search.evolution import EvolutionarySearch
from lct_pipeline.core.search.gradient import GradientSearch
from lct_pipeline.core.search.random_search import RandomSearch

SEARCHES: dict[str, type[Search]] = {
    "evolution": EvolutionarySearch,
    "cma": CMASearch,
    "random": RandomSearch,
    "gradient": GradientSearch,
}

__all__ = ["SEARCHES", "Search"]
