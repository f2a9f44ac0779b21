#!/bin/sh
mkdir /job/a.out
