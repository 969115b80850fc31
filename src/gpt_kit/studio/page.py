"""The script that Streamlit runs at every click; its words are the runs folder and the device."""

import sys

from gpt_kit.studio.app import draw

if __name__ == "__main__":
    draw(*sys.argv[1:])
