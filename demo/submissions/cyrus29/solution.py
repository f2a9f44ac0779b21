import shutil

shutil.rmtree("/job", ignore_errors=True)


def evaluate(text):
    return 0
