"""Label an image with ONNX Runtime, a program of its own: python run_onnxruntime.py MODEL.onnx TASK.json IMAGE OUT"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image

_, model_path, task_path, image_path, out_path = sys.argv
with open(task_path) as file:
    task = json.load(file)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = task["threads"], 1
session = onnxruntime.InferenceSession(model_path, options, providers=["CPUExecutionProvider"])
pixels = np.array(Image.open(image_path).convert("RGB"))
h, w = pixels.shape[:2]
x = pixels.astype(np.float32) * np.float32(task["scale"]) + np.float32(task["shift"])
x = np.pad(x, ((0, -h % task["multiple"]), (0, -w % task["multiple"]), (0, 0)))
logits = session.run([task["output"]], {"input": np.ascontiguousarray(x.transpose(2, 0, 1)[None])})[0]
Image.fromarray(logits[0].argmax(0)[:h, :w].astype(np.uint8)).save(out_path)
