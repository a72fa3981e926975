"""Run the toy."""

import libs.runtime.starting  # noqa: F401 (first: signals during the other imports)
from libs.runtime.service import main
from tests.support.toy.app import ToyConfig, build

main(ToyConfig, build)
