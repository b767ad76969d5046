"""`pangu-rl view RUN...`: runs, also such as go on -> **a page on this machine alone**, for one person's browser.

opened    the folders: runs, rounds and the stages of pipelines       what there is to look at, found anew at each look
series    metrics.jsonl      -> curves of several runs, side by side
rollouts  the rollout store  -> a page of rows that pass filters
group     one group          -> prompt, pictures, places, completions with their scores
tokens    one completion     -> its tokens with log-probs and weight versions
pairs     preference rows    -> a page of them
pipeline  its configuration  -> the graph, what is over, the table of evaluations
media     a content's hash   -> the kept file
app       an address         -> one of the above, as JSON
access    nobody but the holder of the token gets in
page/     what the browser runs: plain modules, which make text of text
"""
