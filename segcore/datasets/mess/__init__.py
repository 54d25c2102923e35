"""The 22 data sets of MESS: how what their authors give out becomes what is registered here.

``recipes`` is the table of the sets, ``sources`` lists the files of a download, ``labels`` and
``images`` read them, ``preparation`` runs a recipe and checks what came out.
"""

from segcore.datasets.mess.preparation import Summary, download_folder, prepare
from segcore.datasets.mess.recipes import RECIPES

__all__ = ["RECIPES", "Summary", "download_folder", "prepare"]
