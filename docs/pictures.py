"""Draw the README's pictures from a finished demo run.

gpt-kit quickstart --out runs/quickstart && python docs/pictures.py runs/quickstart
"""

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

run, images = Path(sys.argv[1]), Path(__file__).parent / "images"
prompt = "Return the number of"
shutil.copy(run / "loss.png", images / "loss.png")

command = ["generate", str(run), "--prompt", prompt, "--max-new-tokens", "160", "--temperature", "0.7", "--top-k", "50", "--seed", "1"]
text = subprocess.run([sys.executable, "-m", "gpt_kit", *command], check=True, capture_output=True, text=True).stdout.rstrip()
lines = [part for line in text.splitlines() for part in textwrap.wrap(line, 78) or [""]][:20]

figure = Figure(figsize=(8, 4.5), dpi=120, facecolor="#1b1f24")
FigureCanvasAgg(figure)
shell = f"$ gpt-kit generate runs/quickstart --prompt '{prompt}' --temperature 0.7 --top-k 50 --seed 1"
figure.text(0.03, 0.93, shell, family="monospace", fontsize=8.5, color="#8b949e", va="top")
figure.text(0.03, 0.86, "\n".join(lines), family="monospace", fontsize=9.5, color="#e6edf3", va="top", linespacing=1.25)
figure.savefig(images / "sample.png")
