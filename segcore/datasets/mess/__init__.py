"""Prepare the 22 data sets of MESS from their authors' downloads.

``recipes`` is the table of the sets, ``sources`` lists the files of a download, ``labels`` and
``images`` read them, ``preparation`` runs a recipe and checks the result.
"""

from segcore.datasets.mess.preparation import Summary, download_folder, prepare
from segcore.datasets.mess.recipes import RECIPES

__all__ = ["RECIPES", "Summary", "download_folder", "prepare"]
