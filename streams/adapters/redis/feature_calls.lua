-- The functions of the library: continues feature_entity.lua.

local keys, counts = {}, {}   -- reused: a chunk's keys, and rows of each

-- Visit the entities that a batch touches, with their stored strings.
local function each(groups, names, visit)
  local at, name, total = 1, 1, #groups / 8
  for first = 1, total, CHUNK do
    local n = min(CHUNK, total - first + 1)
    for i = 1, n do
      local size
      size, counts[i], at = read('<I4I4', groups, at)
      keys[i] = sub(names, name, name + size - 1)
      name = name + size
    end
    local stored = call('MGET', spread(keys, 1, n))
    for i = 1, n do visit(keys[i], counts[i], stored[i]) end
  end
end

-- A batch is computed first and written last: an error on the way changes nothing.
local function defer(writes, key, value, from)
  local n = writes.n
  writes[n + 1], writes[n + 2], writes[n + 3] = key, value, from or false
  writes.n = n + 3
end

local function write(writes, ttl)
  for i = 1, writes.n, 3 do
    local from = writes[i + 2]
    if from then call('SETRANGE', writes[i], from, writes[i + 1])
    else call('SET', writes[i], writes[i + 1], 'EX', ttl) end
  end
end

local e, values, deltas = {}, {}, {}   -- reused: one entity, one event at a time

-- What scans find as of an event that was counted in.
local function look_at(e, head, time)
  local plan, counts = e.plan, {}
  for edge = 1, plan.edges do counts[edge] = head[ROW + 1 + (edge - 1) * plan.stride] end
  return look(plan, e.layout, e.source, e.held, e.tail, time - e.head[1], counts, e.memo)
end

local function fold_event(plan, time, id, exact)
  if not e.head then create(e, time) end
  local head = e.head
  if time < head[2] then
    if time <= head[2] - plan.kept then return nil end
    fit(e, values, exact)
    return insert(e, time, id, values)
  end
  fit(e, values, exact)
  return append(e, time, id, values)
end

-- Fold events, one record after another from `at` on, into one entity that is loaded.
local function fold_events(records, at, count, slot, step, answers, repeated, rests)
  local plan, changed = e.plan, false
  for _ = 1, count do
    local time, row, exact, id
    if plan.remember > 0 then time, row, exact, id, at = read('<I4I4Bc8', records, at)
    else time, row, exact, at = read('<I4I4B', records, at) end
    for column = 1, plan.values do values[column], at = read('<d', records, at) end
    if plan.raw > 0 then e.raw, at = read('c' .. plan.raw, records, at) end
    local answer = plan.blank
    if slot == 1 and id and e.head and knows(e, time, id) then
      repeated[row] = true
      answer = plan.duplicate
    elseif not repeated[row] then
      local head = fold_event(plan, time, id, exact == 1)
      if head then
        local layout = e.layout
        changed = true
        answer = pack(layout.row, spread(head, ROW, plan.row_end))
        if #plan.scans > 0 then answer = answer .. look_at(e, head, time) end
        if not layout.exact then
          rests[#rests + 1] = pack('<I4', row)
            .. pack(layout.rest, spread(head, plan.row_end + 1, layout.fields))
        end
      end
    end
    answers[row * step + slot] = answer
    if e.head and e.count - e.head[plan.oldest] > MOST then shorten(e) end
  end
  return changed
end

-- Fold the batch into one key's entities. Rows go to `answers`, from `slot` in steps of `step`;
-- strings to write go to `writes`. Returns what the rows leave of their sums.
local function fold_key(args, from, answers, slot, step, repeated, writes)
  local plan, records = plan_of(args[from]), args[from + 3]
  local layouts, size, columns, rests, at = plan.layouts, plan.record_size, plan.columns, {}, 1
  for label = plan.values + 1, plan.columns do values[label] = 0 end
  each(args[from + 1], args[from + 2], function(key, count, stored)
    local layout, bytes, place = stored and layouts[sub(stored, #stored - columns + 1)], nil, nil
    if layout and layout.fast then
      bytes, place = layout.fast(stored, records, at, count, slot, step, answers, repeated)
    end
    if not bytes then
      load(e, plan, stored)
      if fold_events(records, at, count, slot, step, answers, repeated, rests) then
        bytes, place = save(e)
      end
    end
    at = at + count * size
    if bytes then defer(writes, key, bytes, place) end
  end)
  return pack('<I4', #rests) .. concat(rests)
end

-- Drop answers to what is committed. The fence lists where each answer ends, after itself.
local function trim(journal, position, committed)
  if not position then
    call('DEL', journal)
    return ''
  end
  local gone, at = 0, 9
  while at <= #position and read('<I8', position, at) <= committed do
    gone, at = gone + 1, at + 8
  end
  if gone > 0 then call('LTRIM', journal, gone, -1) end
  return sub(position, at)
end

-- Fold a micro-batch. KEYS: fence, journal, and the mark of a state that is whole, where it must
-- be. Returns the answers; or the fence where it is not `first`, -1 where the state is not whole:
-- then nothing changed.
local function fold(keys, args)
  local first, next_offset, committed = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  local ttl, offsets = args[4], args[5]
  if keys[3] and call('EXISTS', keys[3]) == 0 then return -1 end
  local position = call('GET', keys[1])
  local fence = position and read('<I8', position) or 0
  if fence ~= first then return fence end
  local rows, step = #offsets / 4, (#args - 5) / 4
  local answers, rests, repeated, writes = {}, {}, {}, { n = 0 }
  for i = 1, rows * step do answers[i] = '' end
  for slot = 1, step do
    rests[slot] = fold_key(args, 6 + (slot - 1) * 4, answers, slot, step, repeated, writes)
  end
  local answer = pack('<I8I8I4', first, next_offset, rows) .. offsets
    .. concat(answers) .. concat(rests)
  local kept = trim(keys[2], position, committed)
  local now = pack('<I8', next_offset)
  defer(writes, keys[1], now .. kept .. now)
  write(writes, ttl)
  call('RPUSH', keys[2], answer)
  call('EXPIRE', keys[2], ttl)
  return answer
end

-- Add labels. KEYS: fence. Returns how many were added, added late, and found no event; or the
-- fence where it is below `expected`: then nothing changed. The note is kept beside the fence.
local function fold_labels(keys, args)
  local first, next_offset, ttl, offsets = tonumber(args[1]), tonumber(args[2]), args[3], args[4]
  local expected, note = tonumber(args[5]), args[6]
  local position = call('GET', keys[1])
  local fence = position and read('<I8', position) or 0
  if fence < expected then return fence end
  local outcomes, counts, writes = {}, { [0] = 0, 0, 0 }, { n = 0 }
  for row = 0, #offsets / 4 - 1 do
    if first + read('<I4', offsets, row * 4 + 1) >= fence then outcomes[row] = 0 end
  end
  for from = 7, #args, 4 do
    local plan, records, at = plan_of(args[from]), args[from + 3], 1
    each(args[from + 1], args[from + 2], function(key, count, stored)
      local changed = false
      load(e, plan, stored)
      for _ = 1, count do
        local time, row, exact = read('<I4I4B', records, at)
        at = at + 9
        for column = plan.values + 1, plan.columns do deltas[column], at = read('<d', records, at) end
        if outcomes[row] then
          local outcome = label(e, time, deltas, exact == 1)
          changed = changed or outcome > 0
          outcomes[row] = max(outcomes[row], outcome)
        end
      end
      if changed then defer(writes, key, save(e)) end
    end)
  end
  for _, outcome in pairs(outcomes) do counts[outcome] = counts[outcome] + 1 end
  if position and next_offset <= fence then note = sub(position, 9) end
  defer(writes, keys[1], pack('<I8', max(fence, next_offset)) .. note)
  write(writes, ttl)
  return { counts[1], counts[2], counts[0] }
end

-- Move a fence forward. KEYS: fence.
local function reposition(keys, args)
  local position = call('GET', keys[1])
  local fence = position and read('<I8', position) or 0
  local kept = position and sub(position, 9) or ''
  call('SET', keys[1], pack('<I8', max(fence, tonumber(args[1]))) .. kept, 'EX', args[2])
  return redis.status_reply('OK')
end

-- Mark the state as whole, for as long as it lives. KEYS: mark, fences. ARGS: the least that each
-- fence must be. Returns 1, or 0 where one is less.
local function declare_whole(keys, args)
  for i = 1, #args do
    local position = call('GET', keys[1 + i])
    local fence = position and read('<I8', position) or 0
    if fence < tonumber(args[i]) then return 0 end
  end
  call('SET', keys[1], '')
  return 1
end

-- Do once, with a key of no meaning, all that the others do: whether the user may. KEYS: the key.
local function rehearse(keys)
  local key = keys[1]
  call('SET', key, '', 'EX', 1)
  call('SETRANGE', key, 0, '0')
  call('GET', key)
  call('MGET', key)
  call('EXISTS', key)
  call('DEL', key)
  call('RPUSH', key, '')
  call('EXPIRE', key, 1)
  call('LTRIM', key, 0, -1)
  call('LRANGE', key, 0, -1)
  call('DEL', key)
  return redis.status_reply('OK')
end

local function register(name, work)
  redis.register_function(name, function(keys, args)
    bind()
    return work(keys, args)
  end)
end

register('driftloop_fold_VERSION', fold)
register('driftloop_labels_VERSION', fold_labels)
register('driftloop_reposition_VERSION', reposition)
register('driftloop_whole_VERSION', declare_whole)
register('driftloop_rehearse_VERSION', rehearse)
