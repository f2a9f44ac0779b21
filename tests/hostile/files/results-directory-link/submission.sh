#!/bin/sh
ln -s /etc /job/dir
