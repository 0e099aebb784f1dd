"""No test may ask a hub for anything: models are made here or installed with the tests."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
