"""`python -m pagnp.gpucheck`: proves the GPU backends on the GPU that is there, and measures them.

running     starts the stages as processes of their own, side by side or one by one, and keeps what they found
job         one stage in its process;  record  what it found so far, in a file that is whole at any time
conformance networks arrays repetition sanitizer speed   the stages
targets     what was to be reached;  document  both files, and several runs put together;  report  the Markdown
"""
