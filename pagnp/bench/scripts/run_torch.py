"""Label one image with PyTorch, as a program of its own: python run_torch.py MODULE.pt TASK.json IMAGE OUT.png"""

import json
import sys

import numpy as np
import torch
from PIL import Image

_, module_path, task_path, image_path, out_path = sys.argv
with open(task_path) as file:
    task = json.load(file)
torch.set_num_threads(task["threads"])
module = torch.load(module_path, weights_only=False).to(memory_format=torch.channels_last)
pixels = torch.from_numpy(np.array(Image.open(image_path).convert("RGB")))
h, w = pixels.shape[:2]
x = pixels.permute(2, 0, 1)[None].to(torch.float32)
x = x * torch.tensor(task["scale"])[:, None, None] + torch.tensor(task["shift"])[:, None, None]
x = torch.nn.functional.pad(x, (0, -w % task["multiple"], 0, -h % task["multiple"]))
with torch.inference_mode():
    labels = module(x.to(memory_format=torch.channels_last))[task["output"]].argmax(1)
Image.fromarray(labels[0, :h, :w].to(torch.uint8).numpy()).save(out_path)
